"""Streams by the names that their clients know, for whoever wants to watch one flow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from penstock.generation import Generation
from penstock.live import Live
from penstock.requests import Caller


@dataclass(frozen=True, slots=True)
class Sight:
    """One stream, now. `delivered` are tokens in completed writes to its furthest reader."""

    state: str
    prompt_tokens: int
    computed: int
    delivered: int


class Streams:
    """What is being generated here, and who reads it. A nameless stream cannot be watched."""

    def __init__(self) -> None:
        self._running: dict[str, Generation] = {}
        self._readers: dict[str, list[Live]] = {}

    def __repr__(self) -> str:
        return f"<Streams {len(self._running)} running>"

    @contextmanager
    def running(self, name: str, source: Generation) -> Iterator[None]:
        """`source` is what `name` is computed by."""
        if not name:
            yield
            return
        self._running[name] = source
        try:
            yield
        finally:
            self._running.pop(name, None)

    @contextmanager
    def read(self, name: str, reader: Live) -> Iterator[None]:
        """`reader` is being written what `name` makes."""
        readers = self._readers.setdefault(name, [])
        readers.append(reader)
        try:
            yield
        finally:
            readers.remove(reader)
            if not readers:
                self._readers.pop(name, None)

    def look(self, name: str, caller: Caller) -> Sight | None:
        """How far `name` is; None where `caller` has nothing of that name."""
        if (source := self._running.get(name)) is None:
            return None
        if not (caller.admin or source.prompt.caller.account == caller.account):
            return None
        reached = (reader.flow.delivered for reader in self._readers.get(name, ()))
        return Sight(
            state=source.state,
            prompt_tokens=len(source.prompt.token_ids),
            computed=source.computed,
            delivered=max(reached, default=0),
        )
