"""Which of a server's models a client gets."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.errors import MODEL_NOT_FOUND, PenstockError
from penstock.requests import Caller
from penstock.served import Offered

DEFAULT_ALIAS = "default"
# What clients send when nobody chose a model: huggingface_hub "dummy", text-generation "tgi".
_ANY_MODEL = frozenset({"", DEFAULT_ALIAS, "dummy", "tgi"})


def choose(models: Mapping[str, Offered], model: str | None, caller: Caller) -> Offered:
    """The model for what a client asked for, if it may have it. Raises `PenstockError`."""
    asked, its = model or "", allowed(models, caller)
    if served := its.get(asked):
        return served
    if its and (asked in _ANY_MODEL or asked.startswith(("http://", "https://"))):
        return next(iter(its.values()))
    names = ", ".join(map(repr, its))
    raise PenstockError(
        MODEL_NOT_FOUND, f"no such model here; this server has {names}", param="model"
    )


def allowed(models: Mapping[str, Offered], caller: Caller) -> dict[str, Offered]:
    """The models that `caller` may use, by name."""
    return {
        name: served
        for name, served in models.items()
        if not caller.models or name in caller.models
    }
