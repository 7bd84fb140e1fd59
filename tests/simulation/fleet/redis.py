"""A Redis on virtual time, which runs the real scripts: what it was told survives its deaths."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from typing import Any, TypeAlias
from unittest import mock

import fakeredis
import trio
from glide import RequestError
from redis.exceptions import ResponseError

from penstock.jobs.redis import scripts

from .machine import Machine

EPOCH_S = 1_800_000_000
"""What its clock shows when a world begins."""
SILENT = {"beat", "find", "find_key", "leave", "listed", "look", "room"}
"""Scripts that put nothing into any stream."""
DENYING = """
local asked, wanting = redis, {SET = true, HSET = true, HSETNX = true, XADD = true, RPUSH = true}
local redis = {call = function(name, ...)
  if wanting[name] then error("OOM command not allowed when used memory > 'maxmemory'.") end
  return asked.call(name, ...)
end}
"""
Saw: TypeAlias = Callable[[str, list[bytes], Any], None]
"""Told of each script that was run: its name, its arguments, and what it answered."""


@dataclass(frozen=True, slots=True)
class Source:
    """`always`: where there is no memory, too."""

    name: str
    code: str
    always: bool


Sources: TypeAlias = Mapping[str, Source]
"""By hash, which is all that a client has of a script."""


@cache
def read_sources() -> Sources:
    sources: dict[str, Source] = {}
    for file in sorted(scripts._LUA.iterdir(), key=lambda file: file.name):
        for flags in (scripts._ALWAYS, scripts._WITH_ROOM):
            for before in (scripts._COMMON, scripts._TABS):
                told = before + file.read_text(encoding="utf-8")
                name = file.name.removesuffix(".lua")
                # The Lua of the stand-in knows no first line with flags.
                sources[sha1((flags + told).encode()).hexdigest()] = Source(name, told, bool(flags))
    return sources


def edit(sources: Sources, name: str, pattern: str, by: str) -> Sources:
    """With a bug in one script, or in all that have the text."""
    edited: dict[str, Source] = {}
    for key, source in sources.items():
        code, count = re.subn(pattern, by, source.code, flags=re.DOTALL)
        assert count or source.name != name, "nothing to break"
        edited[key] = Source(source.name, code, source.always) if source.name == name else source
    return edited


@contextmanager
def virtual_clock() -> Iterator[None]:
    """What the stand-in takes for the time of day is Trio's time."""
    with mock.patch("time.time", _time_s):
        yield


def _time_s() -> float:
    return EPOCH_S + trio.current_time()


class Redis:
    """The server. Its clients are `Connection`s."""

    def __init__(self, sources: Sources, saw: Saw) -> None:
        self.up = True
        self.full = False
        self.stirred = trio.lowlevel.ParkingLot()
        """Unparked when a stream may have changed."""
        self.stirs = 0
        self.machines: list[Machine] = []
        """Those that are connected to it."""
        self._sources = sources
        self._saw = saw
        client: Any = fakeredis.FakeRedis(server=fakeredis.FakeServer(), protocol=2)
        client.response_callbacks.clear()
        self._client = client
        self._compiled: set[str] = set()

    def stop(self) -> None:
        """As a power cut does."""
        self.up = False
        for machine in self.machines:
            machine.disconnect()

    def start(self) -> None:
        self.up = True

    def ask(self, *words: str | bytes | int) -> Any:  # noqa: ANN401  # as the command
        return self._client.execute_command(*words)

    def run(self, script: str, keys: list[str | bytes], args: list[str | bytes]) -> Any:  # noqa: ANN401
        source = self._sources[script]
        name = self._compile(source, denying=self.full and not source.always)
        try:
            answer = self.ask("EVAL", f"return redis.{name}()", len(keys), *keys, *args)
        except ResponseError as error:
            told = f"{error} script: {source.name}, on @user_script:1."
            raise RequestError(told) from None
        if source.name not in SILENT:
            self.stirs += 1
            self.stirred.unpark_all()
        self._saw(source.name, [_bytes(each) for each in args], answer)
        return answer

    def _compile(self, source: Source, *, denying: bool) -> str:
        """Once, which halves the time of each run."""
        name = f"{source.name}_{denying}"
        if name not in self._compiled:
            code = DENYING + source.code if denying else source.code
            self.ask("EVAL", f"redis.{name} = function()\n{code}\nend", 0)
            self._compiled.add(name)
        return name

    def contents(self) -> dict[bytes, bytes]:
        """All that is in it, and of which type."""
        return {key: self.ask("TYPE", key) for key in sorted(self.ask("KEYS", "*"))}


def _bytes(word: str | bytes) -> bytes:
    return word.encode() if isinstance(word, str) else word
