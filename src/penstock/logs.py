"""How log lines look and where they go: for people, or one JSON object a line.

Lines about requests come from structlog and are rendered at once. Those of the standard library's
loggers, ours and other packages', go through the same processors and look the same.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, TypeAlias

import structlog
from structlog.typing import EventDict, Processor

from penstock import origin

LogFormat: TypeAlias = Literal["pretty", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]


class Lines(structlog.WriteLogger):
    """Writes lines while that is possible: a generation must not fail with a pipe or a disk."""

    def msg(self, message: str) -> None:
        with suppress(OSError, ValueError):
            super().msg(message)

    debug = info = warning = error = msg


_TO_LOGGING: list[Processor] = [
    structlog.stdlib.filter_by_level,
    structlog.stdlib.render_to_log_kwargs,
]
"""One list for good, since loggers keep the one that was there when they were first used."""


def to_stderr(log_format: LogFormat, level: LogLevel) -> None:
    """Send all lines from `level` on to standard error."""
    common: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    render = render_json if log_format == "json" else render_pretty
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*common, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: Lines(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(foreign_formatter(common, render))
    logging.basicConfig(level=number, handlers=[handler], force=True)


def to_logging() -> None:
    """Send lines about requests to the standard library's loggers: for who embeds the server."""
    structlog.configure(
        processors=_TO_LOGGING,
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def foreign_formatter(common: list[Processor], render: Processor) -> logging.Formatter:
    """For records of the standard library's loggers."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            add_origin,
            *common,
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        keep_exc_info=False,
    )


def add_origin(_: Any, __: str, line: EventDict) -> EventDict:  # noqa: ANN401
    """Say which request a line is about."""
    return {**origin.current().told(), **line}


def render_json(_: Any, __: str, line: Mapping[str, object]) -> str:  # noqa: ANN401
    """One line, whatever a field holds: JSON escapes control characters."""
    first = {name: line[name] for name in ("time", "level", "logger", "event") if name in line}
    return json.dumps({**first, **line}, default=str)


def render_pretty(_: Any, __: str, line: Mapping[str, object]) -> str:  # noqa: ANN401
    """`12:30:01 INFO generation ended reason=stop prompt_tokens=5`, exceptions below it."""
    fields = dict(line)
    time, level = str(fields.pop("time", ""))[11:19], str(fields.pop("level", "")).upper()
    event, trace = _on_one_line(str(fields.pop("event", ""))), fields.pop("exception", None)
    fields.pop("logger", None)
    told = " ".join(f"{key}={_on_one_line(str(value))}" for key, value in fields.items())
    head = f"{time} {level} {event} {told}".strip()
    return head if trace is None else f"{head}\n{_indented(str(trace))}"


def _on_one_line(text: str) -> str:
    """`text`, or its ASCII literal where it could break the line or move a cursor."""
    return text if text.isprintable() else ascii(text)


def _indented(trace: str) -> str:
    """The lines of an exception: none can be taken for a log line or move a cursor."""
    return "\n".join(f"  {_on_one_line(line)}" for line in trace.splitlines())
