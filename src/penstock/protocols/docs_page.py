"""GET /docs: the OpenAPI document as one page, with nothing from another host and no script."""

from __future__ import annotations

from html import escape
from typing import Any

CONTENT_TYPE = "text/html; charset=utf-8"
POLICY = "default-src 'none'; style-src 'unsafe-inline'"

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}"
    "code{font-size:.9em}h3{margin:1.6rem 0 .2rem}p{margin:.2rem 0}"
    "table{border-collapse:collapse;width:100%;margin:.4rem 0}"
    "td,th{text-align:left;padding:.15rem .6rem .15rem 0;border-bottom:1px solid #8884;"
    "vertical-align:top}:root{color-scheme:light dark}"
)


def render_page(document: dict[str, Any]) -> str:
    """HTML. Everything in it comes from `document`."""
    info = document["info"]
    sections = "".join(
        f"<h2>{escape(tag)}</h2>{''.join(operations)}"
        for tag, operations in _by_tag(document).items()
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info['description'])}</p>"
        '<p>For programs: <a href="openapi.json">openapi.json</a></p>'
        f"{sections}</html>"
    )


def _by_tag(document: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            told = _operation(document, path, method, operation)
            found.setdefault(operation["tags"][0], []).append(told)
    return found


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    heading = f"<h3><code>{method.upper()} {escape(path)}</code></h3>"
    return heading + f"<p>{escape(operation['summary'])}</p>" + _fields(document, operation)


def _fields(document: dict[str, Any], operation: dict[str, Any]) -> str:
    if "parameters" in operation:
        rows = [
            (each["name"], each["schema"], each["required"]) for each in operation["parameters"]
        ]
        return _table(rows)
    body = operation.get("requestBody")
    if body is None:
        return ""
    schema = body["content"]["application/json"]["schema"]
    return "".join(_object(document, each) for each in schema.get("anyOf", [schema]))


def _object(document: dict[str, Any], schema: dict[str, Any]) -> str:
    named = document["components"]["schemas"][_name(schema)]
    required = named.get("required", [])
    return _table([(name, each, name in required) for name, each in named["properties"].items()])


def _table(rows: list[tuple[str, dict[str, Any], bool]]) -> str:
    told = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_kind(schema))}</td>"
        f"<td>{'required' if required else ''}</td></tr>"
        for name, schema, required in rows
    )
    return f"<table>{told}</table>"


def _kind(schema: dict[str, Any]) -> str:
    kinds = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    return " or ".join(_one(each) for each in kinds)


def _one(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _name(schema)
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}" if schema.get("items") else "list"
    return str(schema.get("type", "anything")) + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    if "maximum" not in schema:
        return ""
    low = f"above {schema['exclusiveMinimum']}" if "exclusiveMinimum" in schema else ""
    return f", {low or 'from ' + str(schema['minimum'])} to {schema['maximum']}"


def _name(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]
