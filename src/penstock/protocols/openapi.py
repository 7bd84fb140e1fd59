"""GET /openapi.json: what every route takes, made from the types that parse it.

Bounds are checked after types, so they are added here; likewise which fields cannot be left out,
where the type allows it only so that the refusal is ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.protocols.common import BOUNDS, Bounds
from penstock.protocols.operations import JSON, OPERATIONS, Operation

_REFS = "#/components/schemas/{name}"


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
        told["requestBody"] = {"required": True, "content": {JSON[0]: {"schema": schema}}}
    content: dict[str, Any] = {kind: {} for kind in operation.answers}
    told["responses"] = {
        "200": {"description": "The answer.", **({"content": content} if content else {})},
        **({"204": {"description": "Nothing follows what was read."}} if operation.ends else {}),
        "default": {"description": "What was wrong.", "content": {JSON[0]: {}}},
    }
    return told


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    string = {"type": "string"}
    named = [
        {"name": name, "in": "path", "required": True, "schema": string}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    if operation.query is None:
        return named
    _, schemas = msgspec.json.schema_components([operation.query], ref_template=_REFS)
    schema = schemas[operation.query.__name__]
    _bound(schemas, schema, BOUNDS)
    _require(schema, operation.required)
    return named + [
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
