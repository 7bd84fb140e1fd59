"""Log lines: one record, one line, whatever a field holds."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

import pytest

from penstock.cli import logs

HOSTILE = 'x\n{"level":"error"}\r\u2028\x1b[2J"\\\ud800'


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:], logger.level = handlers, level


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.getLogger("penstock.test").makeRecord(
        "penstock.test", logging.INFO, __file__, 1, message, args, None, extra=extra
    )
    made.created = 1767225600.25
    return made


def failed() -> logging.LogRecord:
    made = record("a generation failed")
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        made.exc_info = (ValueError, error, error.__traceback__)
    return made


def test_a_json_line_has_time_level_logger_event_and_fields() -> None:
    line = logs.JsonFormatter().format(record("ended %s", "well", reason="stop", tokens=5))
    assert line == (
        '{"time": "2026-01-01T00:00:00.250+00:00", "level": "info", "logger": "penstock.test", '
        '"event": "ended well", "reason": "stop", "tokens": 5}'
    )


def test_a_json_line_cannot_be_broken_by_what_it_holds() -> None:
    line = logs.JsonFormatter().format(record("%s", HOSTILE, field=HOSTILE, other={"a": HOSTILE}))
    assert line.isascii()
    assert line.isprintable()
    told = json.loads(line)
    assert told["event"] == told["field"] == told["other"]["a"] == HOSTILE
    assert told["level"] == "info"


def test_a_field_that_json_does_not_know_is_told_as_text() -> None:
    assert json.loads(logs.JsonFormatter().format(record("x", field=1j)))["field"] == "1j"


def test_an_exception_stays_within_its_json_line() -> None:
    line = logs.JsonFormatter().format(failed())
    assert line.splitlines() == [line]
    assert "ValueError" in json.loads(line)["exception"]


def test_a_pretty_line() -> None:
    line = logs.PrettyFormatter().format(record("ended %s", "well", reason="stop", tokens=5))
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO ended well reason=stop tokens=5", line)
    assert logs.PrettyFormatter().format(record("plain")).endswith("INFO plain")


def test_a_pretty_line_stays_one_line_and_moves_no_cursor() -> None:
    line = logs.PrettyFormatter().format(record("%s", HOSTILE, field=HOSTILE))
    assert line.isprintable()
    assert line.count(r"\x1b[2J") == 2
    assert logs.PrettyFormatter().format(record("café", who="né")).endswith("café who=né")


def test_a_pretty_exception_follows_on_its_own_lines() -> None:
    first, second, *_ = logs.PrettyFormatter().format(failed()).split("\n")
    assert first.endswith("INFO a generation failed")
    assert second == "Traceback (most recent call last):"


@pytest.mark.parametrize(
    ("log_format", "kind"), [("pretty", logs.PrettyFormatter), ("json", logs.JsonFormatter)]
)
def test_configure_sends_everything_from_info_on_to_standard_error(
    root: logging.Logger,
    capsys: pytest.CaptureFixture[str],
    log_format: str,
    kind: type[logging.Formatter],
) -> None:
    logs.configure("json" if log_format == "json" else "pretty")
    [handler] = root.handlers
    assert isinstance(handler.formatter, kind)
    logging.getLogger("penstock.x").debug("not this")
    logging.getLogger("penstock.x").info("but this")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "but this" in told.err
