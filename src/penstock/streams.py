"""Streams by the names that their clients know, for whoever wants to watch one flow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from penstock.live import Live
from penstock.requests import Caller


class Source(Protocol):
    """What makes a stream, here or elsewhere."""

    @property
    def account(self) -> str: ...

    @property
    def state(self) -> str: ...

    @property
    def prompt_tokens(self) -> int | None: ...

    @property
    def computed(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Sight:
    """One stream, now. `delivered` are tokens in completed writes to its furthest reader."""

    state: str
    prompt_tokens: int | None
    computed: int
    delivered: int


class Streams:
    """What is being generated here, and who reads it. A nameless stream cannot be watched."""

    def __init__(self) -> None:
        self._running: dict[str, Source] = {}
        self._readers: dict[str, list[tuple[Live, Source | None]]] = {}

    def __repr__(self) -> str:
        return f"<Streams {len(self._running)} running>"

    @contextmanager
    def running(self, name: str, source: Source) -> Iterator[None]:
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
    def read(self, name: str, reader: Live, source: Source | None = None) -> Iterator[None]:
        """`reader` is being written what `name` makes: `source`, where nothing here does."""
        if not name:
            yield
            return
        readers = self._readers.setdefault(name, [])
        readers.append((reader, source))
        try:
            yield
        finally:
            readers.remove((reader, source))
            if not readers:
                self._readers.pop(name, None)

    def look(self, name: str, caller: Caller) -> Sight | None:
        """How far `name` is; None where `caller` has nothing of that name."""
        readers = self._readers.get(name, ())
        known = (self._running.get(name), *(source for _, source in readers))
        source = next((each for each in known if each is not None), None)
        if source is None or not (caller.admin or source.account == caller.account):
            return None
        delivered = max((reader.flow.delivered for reader, _ in readers), default=0)
        computed = max(source.computed, delivered)
        return Sight(source.state, source.prompt_tokens, computed, delivered)
