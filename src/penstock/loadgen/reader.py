"""One request, from connecting to its outcome, read as its kind reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import trio

from penstock.loadgen.answer import Answer, Headers
from penstock.loadgen.dialect import PATHS, Dialect
from penstock.loadgen.outcome import Ending, Outcome
from penstock.loadgen.plan import Ask
from penstock.loadgen.wire import Connect, Target

CHUNK = 1 << 16
SLOW_CHUNK = 256

Tell: TypeAlias = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class Habits:
    """How long a request may take, how many bytes a second a slow one reads, and for how long one
    that has stopped holds on before it leaves."""

    patience_s: float = 120.0
    slow_bytes_s: float = 1000.0
    hold_s: float = 10.0


class Readers:
    """Makes requests of one server. `zero_s` is when the clock of the run began."""

    def __init__(
        self,
        target: Target,
        connect: Connect,
        dialect: Dialect,
        headers: Headers,
        habits: Habits,
        zero_s: float = 0.0,
    ) -> None:
        self.habits = habits
        self.zero_s = zero_s
        self._path = target.base + PATHS[dialect.shape]
        self._headers = [("host", target.authority), *headers]
        self.connect = connect
        self._dialect = dialect

    def now_s(self) -> float:
        """Seconds on the clock of the run."""
        return trio.current_time() - self.zero_s

    async def read(self, ask: Ask, meant_s: float, tell: Tell) -> Outcome:
        """Ask, read, and tell what came of it, even where this is cancelled."""
        visit = Visit(self, ask)
        try:
            with trio.move_on_after(self.habits.patience_s) as patience:
                await visit.run()
            if patience.cancelled_caught:
                visit.end("timeout", f"not done after {self.habits.patience_s:g} s")
        finally:
            visit.end("unfinished", "open when the run was over")
            outcome = visit.outcome(meant_s)
            tell(outcome)
        return outcome

    def request(self, ask: Ask, answer: Answer) -> bytes:
        return answer.ask(self._path, self._headers, self._dialect.body(ask))


class Visit:
    """One request on its way. `turned` is set once nothing more is going to be read."""

    def __init__(self, readers: Readers, ask: Ask) -> None:
        self.ending: Ending | None = None
        self.detail = ""
        self.turned = trio.Event()
        self._answer = Answer()
        self._readers = readers
        self._ask = ask
        self._begun_s = readers.now_s()
        self._connected_s: float | None = None

    async def run(self) -> None:
        try:
            stream = await self._readers.connect(self._ask.kind in ("slow", "stopped"))
        except OSError as error:
            self.end("connect", error.strerror or str(error))
            return
        self._connected_s = self._readers.now_s()
        try:
            await self._follow(stream)
        except (OSError, trio.BrokenResourceError) as error:
            self.end("cut", str(error.__cause__ or error))
        finally:
            await trio.aclose_forcefully(stream)

    def end(self, ending: Ending, detail: str = "") -> None:
        """Note how it ended; what is noted first stays."""
        if self.ending is None:
            self.ending, self.detail = ending, detail
            self.turned.set()

    async def _follow(self, stream: trio.abc.Stream) -> None:
        await stream.send_all(self._readers.request(self._ask, self._answer))
        slow = self._ask.kind == "slow"
        while self._answer.ending is None:
            if self._has_enough():
                await self._turn_away()
                return
            data = await stream.receive_some(SLOW_CHUNK if slow else CHUNK)
            self._answer.feed(bytes(data), self._readers.now_s())
            if slow:
                await trio.sleep(len(data) / self._readers.habits.slow_bytes_s)
        self.end(self._answer.ending, self._answer.detail)

    def _has_enough(self) -> bool:
        heard = len(self._answer.times) >= self._ask.after
        return heard and self._ask.kind in ("stopped", "leaving")

    async def _turn_away(self) -> None:
        """Leave, or hold the connection without reading from it, and leave then."""
        self.end("left" if self._ask.kind == "leaving" else "held")
        if self._ask.kind == "stopped":
            await trio.sleep(self._readers.habits.hold_s)

    def outcome(self, meant_s: float) -> Outcome:
        assert self.ending
        usage = self._answer.usage
        return Outcome(
            number=self._ask.number,
            kind=self._ask.kind,
            ending=self.ending,
            meant_s=meant_s,
            begun_s=self._begun_s,
            connected_s=self._connected_s,
            ended_s=self._readers.now_s(),
            times=self._answer.times,
            tokens=usage.completion_tokens if usage else None,
            prompt_tokens=usage.prompt_tokens if usage else None,
            bytes_read=self._answer.bytes_read,
            detail=self.detail,
        )
