"""GET /openapi.json: what every route takes, made from the types that parse it.

Bounds are checked after types, so they are added here; likewise which fields cannot be left out,
where the type allows it only so that the refusal is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.protocols import anthropic, native, openai, responses, tabby, tgi, tokens
from penstock.protocols.common import BOUNDS, Bounds

_REFS = "#/components/schemas/{name}"
_STREAMABLE = ("application/json", "text/event-stream")
_JSON = ("application/json",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. `bodies` are alternatives; `required` are fields of the first."""

    method: str
    path: str
    tag: str
    summary: str
    bodies: tuple[type[msgspec.Struct], ...] = ()
    query: type[msgspec.Struct] | None = None
    required: tuple[str, ...] = ()
    numbers: Mapping[str, Bounds] | None = None
    answers: tuple[str, ...] = _JSON


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
        "Answer a conversation; nothing is stored.",
        responses.ResponsesBody,
        required=("input",),
        answers=_STREAMABLE,
    ),
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
        answers=("text/event-stream",),
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
        answers=("text/event-stream",),
    ),
    _get("/health", "Operation", "200 while the process lives.", answers=()),
    _get("/ready", "Operation", "200 while a request would be answered, else 503."),
    _get("/metrics", "Operation", "Prometheus text.", answers=("text/plain",)),
    _get("/openapi.json", "Operation", "This document."),
    _get("/docs", "Operation", "The same for people.", answers=("text/html",)),
)


def make_document(version: str, operations: Sequence[Operation] = OPERATIONS) -> dict[str, Any]:
    """The OpenAPI document, as JSON values."""
    structs = [body for operation in operations for body in operation.bodies]
    _, schemas = msgspec.json.schema_components(structs, ref_template=_REFS)
    for operation in operations:
        for body in operation.bodies:
            _bound(schemas, schemas[body.__name__], operation.numbers or BOUNDS)
        if operation.bodies:
            _require(schemas[operation.bodies[0].__name__], operation.required)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _render(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "penstock",
            "version": version,
            "description": "An LLM streaming server. Unknown fields are ignored; known ones that "
            "are not supported and would change the result are refused by name.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _render(operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {"tags": [operation.tag], "summary": operation.summary}
    name = operation.path.strip("/").replace("/", "_").replace("{", "").replace("}", "")
    told["operationId"] = f"{operation.method}_{name or 'root'}"
    if parameters := _parameters(operation):
        told["parameters"] = parameters
    if operation.bodies:
        refs = [{"$ref": _REFS.format(name=body.__name__)} for body in operation.bodies]
        schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
        told["requestBody"] = {"required": True, "content": {_JSON[0]: {"schema": schema}}}
    content: dict[str, Any] = {kind: {} for kind in operation.answers}
    told["responses"] = {
        "200": {"description": "The answer.", **({"content": content} if content else {})},
        "default": {"description": "What was wrong.", "content": {_JSON[0]: {}}},
    }
    return told


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    if "{model}" in operation.path:
        return [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]
    if operation.query is None:
        return []
    _, schemas = msgspec.json.schema_components([operation.query], ref_template=_REFS)
    schema = schemas[operation.query.__name__]
    _bound(schemas, schema, BOUNDS)
    _require(schema, operation.required)
    return [
        {"name": name, "in": "query", "required": name in schema["required"], "schema": each}
        for name, each in schema["properties"].items()
    ]


def _bound(schemas: dict[str, Any], schema: dict[str, Any], numbers: Mapping[str, Bounds]) -> None:
    """Write the bounds beside the types, here and in the objects within."""
    for name, field in schema["properties"].items():
        for each in field.get("anyOf", [field]):
            if each.get("type") in ("integer", "number") and name in numbers:
                bounds = numbers[name]
                low = "exclusiveMinimum" if bounds.exclusive else "minimum"
                each |= {low: bounds.low, "maximum": bounds.high}
            elif inner := schemas.get(each.get("$ref", "").rpartition("/")[2]):
                _bound(schemas, inner, numbers)


def _require(schema: dict[str, Any], names: Sequence[str]) -> None:
    """These are there, and not null."""
    schema["required"] = sorted({*schema.get("required", []), *names})
    for name in names:
        field = schema["properties"][name]
        field.pop("default", None)
        kinds = [each for each in field.get("anyOf", []) if each.get("type") != "null"]
        if kinds:
            schema["properties"][name] = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
