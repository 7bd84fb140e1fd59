"""Where jobs and their events are kept, as the rest of this room sees it.

A log is written by one process and read by many, each at its own pace. Whoever claims it gets an
epoch, and only the newest epoch can write: a writer that was paused and taken over from cannot put
anything behind what its successor wrote. Where readers and acknowledgements are flows back to the
writer, who waits in `append` for room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from penstock.access.ledger import Ledger
from penstock.errors import PenstockError
from penstock.events import Event
from penstock.jobs.job import Job, JobBounds, JobState


class LeaseLostError(Exception):
    """Somebody else writes this log now, or it is complete."""


class Reader(Protocol):
    """One who reads a log, and where they are."""

    def move(self, position: int) -> None:
        """Everything up to `position` was taken."""


class Log(Protocol):
    """The events of one job, numbered from 1 without gaps. The last one is terminal."""

    job: Job

    async def claim(self) -> int:
        """Become its writer. The epoch is greater than that of every writer before."""

    async def append(self, epoch: int, event: Event, *, urgent: bool = False) -> None:
        """Write the next event as soon as there is room for it, or at once where it is `urgent`.

        Error handling: raises `LeaseLostError`. Cancelling means that nothing was written.
        """

    async def read(self, after: int, limit: int) -> Sequence[Event]:
        """At most `limit` events behind number `after`, once there is one; none at the end."""

    def attach(self) -> AbstractContextManager[Reader]:
        """Be counted as a reader within the block."""

    async def acknowledge(self, event_id: int) -> None:
        """Events up to this one have arrived. Never goes back."""

    def known(self) -> JobState:
        """`state` as far as this process has heard of it."""

    async def state(self) -> JobState: ...

    async def text(self) -> str:
        """All text so far."""

    async def refuse(self, error: PenstockError) -> None:
        """Ask the writer to end the job with `error`; nothing where it has ended."""

    async def refused(self) -> PenstockError:
        """Wait until nobody wants this job.

        Somebody said so, or nobody read it for `unread_s`, or for `keep_s` while it was held up by
        its window.
        """

    async def wait_end(self) -> None:
        """Return once the terminal event is in the log."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a store holds now: jobs, those that have not ended, their readers, bytes reserved."""

    jobs: int
    running: int
    readers: int
    log_bytes: int


class Store(Protocol):
    """All jobs of one server, or of several that share it."""

    ledger: Ledger
    """Where use is counted by whoever shares it."""

    async def run(self) -> None:
        """Forget what nobody has asked for long enough. Runs until cancelled."""

    async def create(self, job: Job) -> Log:
        """Keep a new job, and give the log that its owner's key stands for now.

        That may be another's, made a moment before. Raises `PenstockError` beyond the bounds.
        """

    async def find(self, job_id: str) -> Log | None: ...

    async def find_key(self, owner: str, key: str) -> Log | None: ...

    async def listed(self, owner: str, limit: int) -> Sequence[Log]:
        """The newest jobs of `owner`, the newest first, whose logs know how they are now."""

    async def delete(self, job_id: str) -> None:
        """Forget a job that has ended. Those who read it now may go on to its end."""

    def held(self) -> Held: ...


@dataclass(frozen=True, slots=True)
class Taken:
    """A job to run, which this process writes in `epoch`.

    `tries` is how often a process has begun it, without those that gave it back.
    """

    log: Log
    epoch: int
    tries: int


@runtime_checkable
class SharedStore(Store, Protocol):
    """One that several processes use: some make jobs, and others run them.

    Whoever writes a job holds its lease, which every sign of life of that process prolongs.
    """

    async def offer(self, job: Job) -> Log:
        """`create`, and whoever has room for it runs it. Raises `PenstockError`."""

    async def take(self, model: str, free: int, slots: int) -> Sequence[Taken]:
        """Jobs of `model` for a process with so many slots, of which some are `free`.

        Those whose writers are dead go first; their logs say how far they are. One with several
        answers waits, in its turn, until as many slots are free, or all are. Raises
        `PenstockError` where the store is away.
        """

    async def wait_work(self) -> None:
        """Until there may be something to take."""

    def unready(self) -> str | None:
        """Why nobody can be served out of it now, or None."""

    @property
    def full(self) -> bool:
        """Whether it has no memory for new jobs: those that it has are read and ended as ever."""

    async def give_back(self, log: Log, epoch: int) -> None:
        """Another process is to go on with it."""


MakeStore: TypeAlias = Callable[[JobBounds, Callable[[], None]], Store]
"""A store with these bounds; the second argument is called for each job whose time is over."""
