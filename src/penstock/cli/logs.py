"""How log lines look: for people, or one JSON object a line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Literal

_ORDINARY = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in record.__dict__.items() if key not in _ORDINARY}


def _on_one_line(text: str) -> str:
    """`text`, or its ASCII literal where it could break the line or move a cursor."""
    return text if text.isprintable() else ascii(text)


class PrettyFormatter(logging.Formatter):
    """`12:30:01 INFO generation ended reason=stop prompt_tokens=5`"""

    def format(self, record: logging.LogRecord) -> str:
        message = _on_one_line(record.getMessage())
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname} {message}"
        told = " ".join(f"{key}={_on_one_line(str(it))}" for key, it in _extras(record).items())
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{line} {told}".rstrip() + trace


class JsonFormatter(logging.Formatter):
    """One line a record, whatever a field holds: JSON escapes control characters."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def configure(log_format: Literal["pretty", "json"]) -> None:
    """Send penstock's log to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else PrettyFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
