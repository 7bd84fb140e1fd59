"""Command-line options made from `Settings`: same names, same bounds, same words.

A value comes from the flag, else from `PENSTOCK_<NAME>`, else from the TOML file, else from the
default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from penstock.settings import ENV_PREFIX, Settings, SettingsError, build, read_toml

F = TypeVar("F", bound=Callable[..., Any])


def settings_options(*names: str) -> Callable[[F], F]:
    """A decorator that adds `--config` and an option for each named setting (all, if none is)."""
    fields = [field for field in _fields() if not names or field.name in names]

    def decorate(function: F) -> F:
        for field in reversed(fields):
            function = _option(field)(function)
        config = click.option(
            "--config",
            type=click.Path(dir_okay=False, path_type=Path),
            envvar=f"{ENV_PREFIX}CONFIG",
            help="TOML file with settings under these names.",
        )
        return config(function)

    return decorate


def collect(given: Mapping[str, object], config: Path | None) -> Settings:
    """Settings from flags and environment, over those of the file. Raises `click.UsageError`."""
    try:
        values = read_toml(config) if config else {}
        named = {name: value for name, value in given.items() if value is not None}
        return build(values | named)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


def _fields() -> tuple[msgspec.inspect.Field, ...]:
    described = msgspec.inspect.type_info(Settings)
    assert isinstance(described, msgspec.inspect.StructType)
    return described.fields


def _option(field: msgspec.inspect.Field) -> Callable[[F], F]:
    return click.option(
        f"--{field.name.replace('_', '-')}",
        field.name,
        type=_type(field.type),
        envvar=f"{ENV_PREFIX}{field.name.upper()}",
        help=f"{_description(field.type)}  [default: {_default(field)}]",
    )


def _type(kind: msgspec.inspect.Type) -> click.ParamType[Any] | type:
    """What click shows in the help; bounds are checked by `build`, whatever the source."""
    while isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    match kind:
        case msgspec.inspect.LiteralType(values):
            return click.Choice([str(value) for value in values])
        case msgspec.inspect.IntType():
            return int
        case msgspec.inspect.FloatType():
            return float
    return str


def _description(kind: msgspec.inspect.Type) -> str:
    assert isinstance(kind, msgspec.inspect.Metadata)
    return str((kind.extra_json_schema or {})["description"])


def _default(field: msgspec.inspect.Field) -> str:
    return "embedded" if field.name == "model" else str(field.default)
