"""200 JSON schemas of ten classes, as people write them, each with an end in sight."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

WORDS = ["name", "title", "city", "street", "colour", "size", "age", "weight", "price", "count"]
WORDS += ["state", "kind", "note", "tag", "owner", "email", "width", "height", "depth", "speed"]
EACH = 20


def text(rng: random.Random) -> Schema:
    return {"type": "string", "maxLength": rng.randint(1, 24)}


def number(rng: random.Random) -> Schema:
    low = rng.randint(-50, 50)
    return {"type": "integer", "minimum": low, "maximum": low + rng.randint(0, 5000)}


def scalar(rng: random.Random) -> Schema:
    values: list[Any] = rng.sample([*WORDS, 1, 2.5, None, True], rng.randint(1, 6))
    kinds: list[Schema] = [{"type": "boolean"}, {"type": "null"}, {"enum": values}]
    return rng.choice([text(rng), number(rng), *kinds])


def closed(rng: random.Random, value: Callable[[random.Random], Schema], count: int) -> Schema:
    names = rng.sample(WORDS, count)
    properties = {name: value(rng) for name in names}
    return {
        "type": "object",
        "properties": properties,
        "required": names,
        "additionalProperties": False,
    }


def flat(rng: random.Random) -> Schema:
    return closed(rng, scalar, rng.randint(1, 8))


def optional(rng: random.Random) -> Schema:
    schema = flat(rng)
    names = schema["required"]
    return schema | {"required": rng.sample(names, rng.randint(0, len(names)))}


def nested(rng: random.Random) -> Schema:
    return closed(rng, lambda rng: closed(rng, scalar, rng.randint(1, 3)), rng.randint(1, 3))


def array(rng: random.Random) -> Schema:
    low = rng.randint(0, 2)
    items = rng.choice([scalar, flat])(rng)
    return {"type": "array", "items": items, "minItems": low, "maxItems": low + rng.randint(0, 3)}


def tuple_(rng: random.Random) -> Schema:
    items = [scalar(rng) for _ in range(rng.randint(1, 4))]
    return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}


def union(rng: random.Random) -> Schema:
    return {"anyOf": [flat(rng), array(rng), scalar(rng)][: rng.randint(2, 3)]}


def tagged(rng: random.Random) -> Schema:
    """A union that is told apart by a constant, as pydantic writes it."""
    variants = []
    for name in rng.sample(WORDS, 3):
        variant = closed(rng, scalar, 2)
        variant["properties"] = {"type": {"const": name}} | variant["properties"]
        variants.append(variant | {"required": ["type", *variant["required"]]})
    return {"oneOf": variants}


def referring(rng: random.Random) -> Schema:
    item = {"$ref": "#/$defs/item"}
    schema = closed(rng, lambda rng: rng.choice([item, text(rng)]), rng.randint(2, 3))
    return schema | {"$defs": {"item": flat(rng)}}


def pattern(rng: random.Random) -> Schema:
    patterns = [
        r"^[A-Z]{2}-\d{4}$",
        r"^(red|green|blue)$",
        r"^[a-z]{3,8}@[a-z]{3,8}\.org$",
        r"^\d+$",
    ]
    kinds = [{"type": "string", "pattern": each, "maxLength": 24} for each in patterns]
    formats = ["date", "time", "date-time", "uuid", "ipv4"]
    kinds += [{"type": "string", "format": each} for each in formats]
    return closed(rng, lambda rng: rng.choice(kinds), rng.randint(1, 4))


def decimal(rng: random.Random) -> Schema:
    bounded = {"type": "number", "minimum": 0, "maximum": 10, "multipleOf": 0.25}
    nullable = {"type": ["integer", "null"], "minimum": 0, "exclusiveMaximum": 100}
    return closed(rng, lambda rng: rng.choice([bounded, nullable, number(rng)]), rng.randint(1, 5))


CLASSES = (
    flat, optional, nested, array, tuple_, union, tagged, referring, pattern, decimal,
)  # fmt: skip


def schemas() -> list[Schema]:
    """`EACH` of every class, always the same."""
    return [
        make(random.Random(f"{make.__name__} {index}")) for make in CLASSES for index in range(EACH)
    ]
