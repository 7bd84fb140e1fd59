"""Types of options that click does not have."""

from __future__ import annotations

from math import isfinite
from typing import Any

import click
import msgspec

from penstock.loadgen.lengths import Lengths, LengthsError, parse_lengths


class LengthsType(click.ParamType[Lengths]):
    """`penstock.loadgen.lengths` as an option."""

    name = "lengths"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Lengths:
        try:
            return parse_lengths(str(value))
        except LengthsError as error:
            self.fail(str(error), param, ctx)


class Extra(click.ParamType[dict[str, Any]]):
    """A JSON object as an option."""

    name = "json"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        try:
            return msgspec.json.decode(str(value), type=dict[str, Any])
        except msgspec.MsgspecError:
            self.fail(f"{value!r} is not a JSON object", param, ctx)


class Number(click.FloatRange):
    """NaN is in every range."""

    def convert(
        self, value: float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not isfinite(number):
            self.fail("this is not a number", param, ctx)
        return number
