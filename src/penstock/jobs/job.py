"""What is known of a job: what was asked for, which never changes, and how it goes."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal, TypeAlias

from penstock.events import Finished, Terminal
from penstock.origin import NOWHERE, Origin
from penstock.requests import GenerateRequest

Status: TypeAlias = Literal["queued", "running", "completed", "failed", "cancelled"]

ANYONE = ""
"""The owner of what is asked for without a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a client asks for. Its `request` has a seed, so that another process can go on with it.

    `window` bounds the events made and not acknowledged. `unread_s` is how long the job may be
    without a reader, `keep_s` how long it is kept while nobody reads it once it has ended, or waits
    for an acknowledgement.
    """

    request: GenerateRequest
    model: str
    keep_s: float
    window: int | None = None
    unread_s: float = inf
    listed: bool = True
    owner: str = ANYONE
    key: str | None = None
    """The Idempotency-Key, which counts for its owner only."""
    digest: bytes = b""
    """Of the body: one key stands for one of them."""
    origin: Origin = NOWHERE
    """The request that submitted it, for whoever ends it."""
    ahead: int | None = None
    """Events that it may be ahead of its furthest reader, as whoever made it was told."""
    about: str = ""
    """What the dialect in which it was asked for wants back with it, in words of its own."""


@dataclass(frozen=True, slots=True)
class Job:
    """An order that was accepted. `reserved` is what its log may take, in bytes."""

    job_id: str
    order: Order
    reserved: int


@dataclass(frozen=True, slots=True)
class JobState:
    """How far a job is. Its events are numbered from 1; the terminal is the last of them."""

    job_id: str
    last_id: int
    acknowledged: int
    terminal: Terminal | None

    @property
    def status(self) -> Status:
        """Running from its first event on."""
        if self.terminal is None:
            return "running" if self.last_id else "queued"
        if isinstance(self.terminal, Finished):
            return "completed"
        return "cancelled" if self.terminal.error.kind.cancelled else "failed"


@dataclass(frozen=True, slots=True)
class JobBounds:
    """What jobs may take: events ahead of their readers, seconds, numbers, bytes."""

    window: int
    wall_s: float
    keep_s: float
    resume_window_s: float
    max_jobs: int
    log_bytes: int
