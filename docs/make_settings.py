"""Print docs/settings.md from `penstock.settings`. Run by `just docs`; a test compares."""

from __future__ import annotations

import sys

import msgspec

from penstock.settings import ENV_PREFIX, Settings, describe

HEAD = """# Settings

Generated from `penstock.settings` by `just docs`.

Each is a flag of `penstock serve`, an environment variable, and a key of the TOML file named by
`--config`. A flag wins over the environment, the environment over the file, the file over the
default. Units stand in the names.

| flag | variable | default | what |
|---|---|---|---|
"""


def row(field: msgspec.inspect.Field) -> str:
    assert isinstance(field.type, msgspec.inspect.Metadata)
    text = (field.type.extra_json_schema or {})["description"]
    flag, variable = field.name.replace("_", "-"), field.name.upper()
    return f"| `--{flag}` | `{ENV_PREFIX}{variable}` | `{describe(field.default)}` | {text} |\n"


def page() -> str:
    described = msgspec.inspect.type_info(Settings)
    assert isinstance(described, msgspec.inspect.StructType)
    return HEAD + "".join(row(field) for field in described.fields)


if __name__ == "__main__":
    sys.stdout.write(page())
