"""One answer of plain text, as a job and a WebSocket ask for it."""

from __future__ import annotations

from typing import Any

from penstock.errors import invalid
from penstock.protocols.common import (
    ChatMessage,
    check_bounds,
    parse_messages,
    parse_prompt,
    parse_sampling,
    refuse,
)
from penstock.protocols.constraints import GuidedBody, parse_grammar
from penstock.requests import GenerateRequest


class SingleBody(GuidedBody):
    """The last fields are known in order to be refused."""

    prompt: str | list[Any] | None = None
    messages: list[ChatMessage] | None = None
    max_completion_tokens: int | None = None
    window: int | None = None
    logprobs: bool | int | None = None
    top_logprobs: int | None = None
    suffix: str | None = None
    echo: bool | None = None
    best_of: int | None = None
    tool_choice: str | dict[str, Any] | None = None


def parse_single(body: SingleBody) -> GenerateRequest:
    """What to generate. Raises `PenstockError`."""
    check_bounds(body)
    refuse(
        # A 0 would ask /v1/completions for them, too.
        logprobs=body.logprobs is not None and body.logprobs is not False,
        top_logprobs=bool(body.top_logprobs),
        suffix=bool(body.suffix),
        echo=bool(body.echo),
        n=(body.n or 1) > 1,
        best_of=(body.best_of or 1) > 1,
        tool_choice=body.tool_choice not in (None, "auto", "none"),
    )
    if body.messages is not None and body.prompt is not None:
        raise invalid("messages", "give either prompt or messages, not both")
    common = parse_sampling(body) | {
        "max_tokens": body.max_completion_tokens or body.max_tokens,
        "grammar": parse_grammar(body),
    }
    if body.messages is not None:
        return GenerateRequest(messages=parse_messages(body.messages), **common)
    return GenerateRequest(prompt=parse_prompt(body.prompt), **common)
