"""How many tokens a slot of the KV cache may hold."""

from __future__ import annotations

from penstock.engine.model import Model, ModelError
from penstock.memory import available_bytes
from penstock.settings import Settings

MIN_LEN = 128
"""Fewer tokens of prompt and answer are chosen for nobody who has not asked for it."""


def free_for_cache(model: Model) -> int:
    """What is free where the model's cache goes, with the model in place."""
    free = model.memory.free_bytes()
    return available_bytes() if free is None else free


def choose_max_len(settings: Settings, model: Model, free_bytes: int, models: int = 1) -> int:
    """Tokens a slot: as set, else all that the model was made for, if its share of memory holds it.

    Raises `ModelError` where that is too little, or what was set is more than all that is free.
    """
    limit = model.spec.max_positions
    column_bytes = settings.slots * model.spec.kv_bytes_per_token
    if settings.max_len:
        chosen, budget_bytes = min(settings.max_len, limit), free_bytes
    else:
        budget_bytes = int(free_bytes * settings.kv_memory_fraction / models)
        chosen = max(min(limit, budget_bytes // column_bytes), min(limit, MIN_LEN))
    if chosen * column_bytes > budget_bytes:
        need = chosen * column_bytes >> 20
        raise ModelError(
            f"{settings.slots} slots of {chosen} tokens need {need} MiB of KV cache, more than "
            f"the {budget_bytes >> 20} MiB there are for it on the {model.device}; "
            + _remedy(budget_bytes // (chosen * model.spec.kv_bytes_per_token))
        )
    return chosen


def _remedy(fitting: int) -> str:
    if fitting:
        return f"lower --slots or --max-len ({fitting} such slots would fit)"
    return "not even one such slot fits: lower --max-len, or take a smaller model"
