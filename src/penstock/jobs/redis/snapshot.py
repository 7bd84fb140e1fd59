"""What a process knows of a job at a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from penstock.errors import PenstockError
from penstock.events import Event, Failed, Finished, Terminal
from penstock.jobs.job import JobState
from penstock.jobs.redis.codec import DecodeError, decode_error, decode_event, foreign


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`others` is the furthest reader in other processes; `idle` since when nobody reads it."""

    last_id: int
    acknowledged: int
    epoch: int
    terminal: Terminal | None
    refusal: PenstockError | None
    idle: str
    others: int | None

    @classmethod
    def of(cls, told: Sequence[bytes]) -> Snapshot:
        """From what `snapshot` in `common.lua` gives."""
        last_id, acknowledged, epoch, terminal, refusal, idle, others = told
        return cls(
            last_id=int(last_id),
            acknowledged=int(acknowledged),
            epoch=int(epoch),
            terminal=_read_terminal(terminal) if terminal else None,
            refusal=_read_refusal(refusal) if refusal else None,
            idle=idle.decode(),
            others=int(others) if int(others) >= 0 else None,
        )

    def state(self, job_id: str) -> JobState:
        return JobState(job_id, self.last_id, self.acknowledged, self.terminal)

    def after(self, before: Snapshot) -> Snapshot:
        """This one, or what `before` has of more: answers may overtake each other."""
        return replace(
            self,
            last_id=max(self.last_id, before.last_id),
            acknowledged=max(self.acknowledged, before.acknowledged),
            epoch=max(self.epoch, before.epoch),
            terminal=before.terminal or self.terminal,
            refusal=before.refusal or self.refusal,
            idle=max(self.idle, before.idle),
        )

    def with_last(self, last_id: int, terminal: Event | None = None) -> Snapshot:
        end = _terminal(terminal) if terminal is not None else self.terminal
        return replace(self, last_id=max(last_id, self.last_id), terminal=end)

    def idle_since(self, now: str) -> Snapshot:
        return replace(self, idle=max(now, self.idle))


def _read_terminal(data: bytes) -> Terminal:
    try:
        return _terminal(decode_event(data))
    except DecodeError:
        return Failed(foreign())


def _read_refusal(data: bytes) -> PenstockError:
    try:
        return decode_error(data)
    except DecodeError:
        return foreign()


def _terminal(event: Event) -> Terminal:
    assert isinstance(event, Finished | Failed)
    return event
