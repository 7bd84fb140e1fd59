"""Every route that is served: what it is for, what it takes, what it answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.protocols import (
    anthropic,
    jobs,
    native,
    openai,
    responses,
    single,
    tabby,
    tgi,
    tokens,
)
from penstock.protocols.common import Bounds

JSON = ("application/json",)
_STREAMABLE = ("application/json", "text/event-stream")
_EVENTS = ("text/event-stream",)


class StreamQuery(msgspec.Struct):
    job_id: str
    last_event_id: int | None = None


class ResponseQuery(msgspec.Struct):
    stream: bool = False
    starting_after: int | None = None


class ListQuery(msgspec.Struct):
    limit: int = jobs.DEFAULT_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. `bodies` are alternatives; `required` are fields of the first.

    `ends` says that it answers 204 where nothing follows what was read.
    """

    method: str
    path: str
    tag: str
    summary: str
    bodies: tuple[type[msgspec.Struct], ...] = ()
    query: type[msgspec.Struct] | None = None
    required: tuple[str, ...] = ()
    numbers: Mapping[str, Bounds] | None = None
    answers: tuple[str, ...] = JSON
    ends: bool = False


def _post(path: str, tag: str, summary: str, *bodies: Any, **more: Any) -> Operation:  # noqa: ANN401
    return Operation(method="post", path=path, tag=tag, summary=summary, bodies=bodies, **more)


def _get(path: str, tag: str, summary: str, **more: Any) -> Operation:  # noqa: ANN401
    return Operation(method="get", path=path, tag=tag, summary=summary, **more)


_TGI: dict[str, Any] = {"required": ("inputs",), "numbers": tgi.NUMBERS}
_ANTHROPIC: dict[str, Any] = {"required": ("messages",), "numbers": anthropic.NUMBERS}

OPERATIONS: Sequence[Operation] = (
    _post(
        "/v1/chat/completions",
        "OpenAI",
        "Answer a conversation.",
        openai.ChatBody,
        required=("messages",),
        answers=_STREAMABLE,
    ),
    _post(
        "/v1/completions",
        "OpenAI",
        "Go on from a prompt, fill a gap, or, with segments, complete at an editor's cursor.",
        openai.CompletionBody,
        tabby.CursorBody,
        required=("prompt",),
        answers=_STREAMABLE,
    ),
    _post(
        "/v1/responses",
        "OpenAI",
        "Answer a conversation, in the background if wanted, and keep the answer for a while.",
        responses.ResponsesBody,
        required=("input",),
        answers=_STREAMABLE,
    ),
    _get(
        "/v1/responses/{response_id}",
        "OpenAI",
        "A response that is kept, or its events.",
        query=ResponseQuery,
        answers=_STREAMABLE,
    ),
    Operation(
        method="delete",
        path="/v1/responses/{response_id}",
        tag="OpenAI",
        summary="Forget a response.",
    ),
    _post("/v1/responses/{response_id}/cancel", "OpenAI", "End a response."),
    _get("/v1/models", "OpenAI", "The models that are served."),
    _get("/v1/models/{model}", "OpenAI", "One model."),
    _post(
        "/v1/messages",
        "Anthropic",
        "Answer a conversation.",
        anthropic.MessagesBody,
        answers=_STREAMABLE,
        **_ANTHROPIC,
    ),
    _post(
        "/v1/messages/count_tokens",
        "Anthropic",
        "Count the tokens of a conversation.",
        anthropic.CountBody,
        **_ANTHROPIC,
    ),
    _post(
        "/",
        "TGI",
        "As `stream` says; whole, a list of one.",
        tgi.GenerateBody,
        answers=_STREAMABLE,
        **_TGI,
    ),
    _post("/generate", "TGI", "Go on from a prompt.", tgi.GenerateBody, **_TGI),
    _post(
        "/generate_stream",
        "TGI",
        "The same, an event for each token.",
        tgi.GenerateBody,
        answers=_EVENTS,
        **_TGI,
    ),
    _get("/info", "TGI", "The model and what fits."),
    _get("/v1/health", "Tabby", "The model and the machine."),
    Operation(method="post", path="/v1/health", tag="Tabby", summary="The same."),
    _get("/v1beta/server_setting", "Tabby", "What an editor's agent may do."),
    _post("/v1/events", "Tabby", "Taken and forgotten.", answers=()),
    _post("/tokenize", "Tokens", "Token ids of a text.", tokens.TokenizeBody),
    _post(
        "/detokenize",
        "Tokens",
        "The text of token ids.",
        tokens.DetokenizeBody,
        required=("tokens",),
    ),
    _get(
        "/chat/stream",
        "Browser",
        "Answer one question to an EventSource.",
        query=native.Query,
        required=("prompt",),
        answers=_EVENTS,
        ends=True,
    ),
    _post("/v1/jobs", "Jobs", "Start an answer that outlives its readers.", single.SingleBody),
    _get("/v1/jobs", "Jobs", "The jobs that are kept, newest first.", query=ListQuery),
    _get("/v1/jobs/{job_id}", "Jobs", "How a job stands, and its text."),
    Operation(method="delete", path="/v1/jobs/{job_id}", tag="Jobs", summary="Forget a job."),
    _post("/v1/jobs/{job_id}/cancel", "Jobs", "End a job."),
    _post("/v1/jobs/{job_id}/ack", "Jobs", "Say what was read, and move the window.", jobs.AckBody),
    _get(
        "/v1/stream",
        "Jobs",
        "A job's events, from the first or behind the last that was read.",
        query=StreamQuery,
        answers=_EVENTS,
        ends=True,
    ),
    _post("/v1/requests/{request_id}/cancel", "Operation", "End a request, by its x-request-id."),
    _get("/v1/usage", "Operation", "What the caller has used of its key's limits."),
    _get("/v1/flow", "Operation", "How far streams are, by id: computed, delivered, parked."),
    _get("/health", "Operation", "200 while the process lives.", answers=()),
    _get("/ready", "Operation", "200 while a request would be answered, else 503."),
    _get("/metrics", "Operation", "Prometheus text.", answers=("text/plain",)),
    _get("/openapi.json", "Operation", "This document."),
    _get("/docs", "Operation", "The same for people.", answers=("text/html",)),
)
