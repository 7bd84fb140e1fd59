"""POST /tokenize and /detokenize, with the fields that vLLM's clients use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.errors import invalid
from penstock.protocols.body import decode
from penstock.protocols.common import (
    ChatMessage,
    parse_messages,
    parse_prompt,
    parse_template_options,
    refuse,
)
from penstock.requests import GenerateRequest


class TokenizeBody(msgspec.Struct):
    """POST /tokenize: a prompt, or messages as the model's chat template puts them."""

    model: str | None = None
    prompt: str | list[Any] | None = None
    messages: list[ChatMessage] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class DetokenizeBody(msgspec.Struct):
    """POST /detokenize."""

    model: str | None = None
    tokens: list[int] | None = None


def parse_tokenize(body: bytes) -> tuple[GenerateRequest, bool]:
    """What to tokenise, and whether to name the tokens. Raises `PenstockError`."""
    asked = decode(body, TokenizeBody)
    refuse(
        add_special_tokens=asked.add_special_tokens is False,
        chat_template=asked.chat_template is not None,
    )
    if asked.messages is not None and asked.prompt is not None:
        raise invalid("messages", "give either prompt or messages, not both")
    if asked.messages is None:
        request = GenerateRequest(prompt=parse_prompt(asked.prompt), model=asked.model)
    else:
        request = GenerateRequest(
            messages=parse_messages(asked.messages),
            model=asked.model,
            template_options=parse_template_options(asked.chat_template_kwargs),
        )
    return request, bool(asked.return_token_strs)


def parse_detokenize(body: bytes) -> tuple[str | None, list[int]]:
    """A model's name and token ids, whose bounds are not known here. Raises `PenstockError`."""
    asked = decode(body, DetokenizeBody)
    if not asked.tokens or min(asked.tokens) < 0:
        raise invalid("tokens", "tokens must be a list of token ids with at least one in it")
    return asked.model, asked.tokens


def render_tokens(
    tokens: Sequence[int], *, max_len: int, names: Sequence[str] | None
) -> dict[str, Any]:
    """The answer of /tokenize. `max_len` is the model's context in tokens."""
    told: dict[str, Any] = {"count": len(tokens), "max_model_len": max_len, "tokens": list(tokens)}
    return told if names is None else told | {"token_strs": list(names)}
