"""Where a request came from: known to every task that serves it, and told in its log line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One request, as its log lines and its span name it.

    `number` is ours and names no other request; `request_id` is the client's own where it sent a
    usable one, else the same. `generation_id` is what the answer
    calls itself. `traceparent` and `tracestate` are the W3C headers as they came.
    """

    number: str = ""
    request_id: str = ""
    generation_id: str = ""
    account: str = ""
    route: str = ""
    user_agent: str = ""
    traceparent: str = ""
    tracestate: str = ""

    def told(self) -> dict[str, str]:
        """What there is of it, for a log line."""
        fields = {
            "request_id": self.request_id,
            "generation_id": self.generation_id,
            "account": self.account,
            "route": self.route,
            "user_agent": self.user_agent,
        }
        return {name: value for name, value in fields.items() if value}


NOWHERE = Origin()
# Tasks inherit it, so a job's task knows the request that submitted it long after that has ended.
_origin: ContextVar[Origin] = ContextVar("origin", default=NOWHERE)  # frozen
current = _origin.get


@contextmanager
def entered(origin: Origin) -> Iterator[None]:
    """What runs inside serves `origin`."""
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


def name_account(account: str) -> None:
    """What this task serves is for that account."""
    _origin.set(replace(_origin.get(), account=account))


def name_generation(generation_id: str) -> None:
    """From here on this task makes the answer of that name."""
    _origin.set(replace(_origin.get(), generation_id=generation_id))
