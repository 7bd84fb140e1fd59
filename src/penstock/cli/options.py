"""Command-line options made from `Settings`: same names, same bounds, same words.

A value comes from the flag, else from `PENSTOCK_<NAME>`, else from the TOML file, else from the
default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import click
import msgspec

from penstock.settings import ENV_PREFIX, Settings, SettingsError, build, describe, read_toml

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
        named = {name: value for name, value in given.items() if value not in (None, ())}
        return build(values | named)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


def _fields() -> tuple[msgspec.inspect.Field, ...]:
    described = msgspec.inspect.type_info(Settings)
    assert isinstance(described, msgspec.inspect.StructType)
    return described.fields


class _Listed(click.types.StringParamType):
    """A string that may be given several times, or in one variable with commas."""

    envvar_list_splitter: ClassVar[str | None] = ","


def _option(field: msgspec.inspect.Field) -> Callable[[F], F]:
    kind = _type(field.type)
    flag = field.name.replace("_", "-")
    return click.option(
        f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}",
        field.name,
        type=kind,
        default=None,
        multiple=isinstance(kind, _Listed),
        envvar=f"{ENV_PREFIX}{field.name.upper()}",
        help=f"{_description(field.type)}  [default: {describe(field.default)}]",
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
        case msgspec.inspect.BoolType():
            return bool
        case msgspec.inspect.VarTupleType():
            return _Listed()
    return str


def _description(kind: msgspec.inspect.Type) -> str:
    assert isinstance(kind, msgspec.inspect.Metadata)
    return str((kind.extra_json_schema or {})["description"])
