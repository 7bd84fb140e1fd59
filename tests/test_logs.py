"""Log lines: one record, one line, whatever a field holds."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import structlog

from penstock import logs, origin
from penstock.origin import Origin

HOSTILE = 'x\n{"level":"error"}\r\u2028\x1b[2J"\\\ud800'


@pytest.fixture
def configured() -> Iterator[None]:
    """The standard library's root logger and structlog's configuration, put back as they were."""
    logger, config = logging.getLogger(), structlog.get_config()
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:], logger.level = handlers, level
    structlog.configure(**config)


def configure(log_format: str, level: str = "info") -> Any:  # noqa: ANN401
    """A logger of penstock's own, as `penstock serve` has it."""
    logs.to_stderr("json" if log_format == "json" else "pretty", level)  # type: ignore[arg-type]
    return structlog.get_logger()


pytestmark = pytest.mark.usefixtures("configured")


def test_a_json_line_has_time_level_event_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json").info("ended well", reason="stop", tokens=5)
    line = capsys.readouterr().err
    assert re.fullmatch(
        r'\{"time": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "level": "info", '
        r'"event": "ended well", "reason": "stop", "tokens": 5\}\n',
        line,
    )


def test_a_record_of_another_logger_is_a_line_of_the_same_kind(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("json")
    with origin.entered(Origin(request_id="r-1", route="/v1/x")):
        logging.getLogger("hypercorn.error").warning("broke %s", "off", extra={"peer": 5})
    told = json.loads(capsys.readouterr().err)
    del told["time"]
    assert told == {
        "level": "warning",
        "logger": "hypercorn.error",
        "event": "broke off",
        "request_id": "r-1",
        "route": "/v1/x",
        "peer": 5,
    }


def test_a_json_line_cannot_be_broken_by_what_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    log = configure("json")
    log.info(HOSTILE, field=HOSTILE, other={"a": HOSTILE})
    logging.getLogger("penstock.test").info("%s", HOSTILE, extra={"field": HOSTILE})
    first, second = capsys.readouterr().err.rstrip("\n").split("\n")
    for line in first, second:
        assert line.isascii()
        assert line.isprintable()
    told = json.loads(first)
    assert told["event"] == told["field"] == told["other"]["a"] == HOSTILE
    assert told["level"] == "info"
    assert json.loads(second)["event"] == json.loads(second)["field"] == HOSTILE


def test_a_field_that_json_does_not_know_is_told_as_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("json").info("x", field=1j)
    assert json.loads(capsys.readouterr().err)["field"] == "1j"


@pytest.mark.parametrize("foreign", [False, True])
def test_an_exception_stays_within_its_json_line(
    capsys: pytest.CaptureFixture[str], foreign: bool
) -> None:
    log = configure("json")
    told = logging.getLogger("penstock.test") if foreign else log
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        told.exception("a generation failed")
    line = capsys.readouterr().err.removesuffix("\n")
    assert line.splitlines() == [line]
    assert "ValueError" in json.loads(line)["exception"]


def test_a_pretty_line(capsys: pytest.CaptureFixture[str]) -> None:
    log = configure("pretty")
    log.info("ended well", reason="stop", tokens=5)
    log.info("plain")
    first, second = capsys.readouterr().err.rstrip("\n").split("\n")
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO ended well reason=stop tokens=5", first)
    assert second.endswith("INFO plain")


@pytest.mark.parametrize("foreign", [False, True])
def test_a_pretty_line_stays_one_line_and_moves_no_cursor(
    capsys: pytest.CaptureFixture[str], foreign: bool
) -> None:
    log = configure("pretty")
    if foreign:
        logging.getLogger("penstock.test").info("%s", HOSTILE, extra={"field": HOSTILE})
    else:
        log.info(HOSTILE, field=HOSTILE)
    log.info("café", who="né")
    first, second = capsys.readouterr().err.rstrip("\n").split("\n")
    assert first.isprintable()
    assert first.count(r"\x1b[2J") == 2
    assert second.endswith("café who=né")


def test_a_pretty_exception_follows_indented_and_cannot_look_like_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = configure("pretty")
    try:
        raise ValueError("no\n12:00:00 INFO generation ended\x1b[2J")
    except ValueError:
        log.exception("a generation failed")
    first, second, *rest = capsys.readouterr().err.rstrip("\n").split("\n")
    assert first.endswith("ERROR a generation failed")
    assert second == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") and line.isprintable() for line in rest)


@pytest.mark.parametrize(
    ("level", "told"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_lines_below_the_level_are_not_written_wherever_they_come_from(
    capsys: pytest.CaptureFixture[str], level: str, told: int
) -> None:
    ours, theirs = configure("json", level), logging.getLogger("penstock.x")
    for logger in ours, theirs:
        for name in "debug", "info", "warning", "error":
            getattr(logger, name)("here")
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.count("\n") == 2 * told


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "no space"), ValueError()])
@pytest.mark.parametrize("level", ["info", "error"])
def test_a_line_that_cannot_be_written_disturbs_nobody(
    monkeypatch: pytest.MonkeyPatch, error: Exception, level: str
) -> None:
    class Broken(StringIO):
        def write(self, text: str) -> int:
            raise error

    monkeypatch.setattr(sys, "stderr", Broken())
    getattr(configure("json"), level)("ended")


def test_an_embedded_server_leaves_its_lines_to_the_standard_library(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logs.to_logging()
    with caplog.at_level(logging.INFO):
        structlog.get_logger().info("ended", reason="stop")
        structlog.get_logger().debug("not this")
    (record,) = caplog.records
    assert (record.message, vars(record)["reason"]) == ("ended", "stop")
