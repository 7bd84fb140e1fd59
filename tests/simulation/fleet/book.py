"""What was written of each job, beside what should have been."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import trio

from penstock.engine.tokenizer import Tokenizer
from penstock.events import Delta, Event, Failed, Finished
from penstock.jobs.job import Order
from penstock.jobs.redis.codec import decode_event, decode_order
from penstock.jobs.redis.link import PREFIX
from penstock.requests import Prompt

from ..scripted import Script

REASONS = {"cancelled", "deadline_exceeded", "internal_error", "stalled", "unavailable", "unread"}
"""Why a job may end without being whole; those who asked for it know more of that."""


@dataclass(slots=True)
class Entry:
    """A job that was accepted: what it is to say, and how far its log is."""

    order: Order
    prompt: Prompt
    pieces: list[str]
    reason: str
    tokens: int
    last: int = 0
    through: int = 0
    ended: str | None = None
    epoch: int = 0
    writers: dict[int, bytes] = field(default_factory=dict)
    beyond_s: float | None = None
    """Since when it is written further than its readers allow."""


class BrokenBookError(AssertionError):
    """Something is in a log that must not be there."""


class Book:
    """Looks into each log as soon as it may have changed. `ask` reads what Redis has."""

    def __init__(self, script: Script, tokenizer: Tokenizer, *, patience_s: float) -> None:
        self.jobs: dict[str, Entry] = {}
        self._prompts: dict[tuple[tuple[int, ...], int], list[Entry]] = {}
        self.ask: Any = None
        self._script = script
        self._tokenizer = tokenizer
        self._patience_s = patience_s

    def saw(self, name: str, args: list[bytes], answer: Any) -> None:  # noqa: ANN401  # as the script
        match name:
            case "create" if answer[0] == b"made":
                self._open(args[2].decode(), decode_order(args[3]))
            case "append":
                for at, written in zip(range(2, len(args), 5), answer[1], strict=True):
                    self._look(args[at].decode(), args[0], int(args[at + 1]))
                    if written:
                        self._check_told(args[at].decode(), args[at + 1])
            case "refuse" | "give_back":
                self._look(args[2].decode(), args[0], None)

    def excuse(self) -> None:
        """Nobody could hear of readers meanwhile."""
        for entry in self.jobs.values():
            entry.beyond_s = None

    def through(self, prompt: Prompt) -> int | None:
        """Tokens that are written of a job; None where there is none. Some ask twice."""
        entries = self._prompts.get((prompt.token_ids, prompt.seed), ())
        return max((entry.through for entry in entries), default=None)

    def unfinished(self) -> list[str]:
        return [name for name, entry in self.jobs.items() if entry.ended is None]

    def _open(self, job_id: str, order: Order) -> None:
        request, encoder = order.request, self._tokenizer
        if request.messages is None:
            ids = encoder.encode(request.prompt or "")
        else:
            ids = encoder.encode_chat(request.messages)
        seed = request.sampling.seed or 0
        prompt = Prompt(
            token_ids=tuple(ids),
            max_tokens=request.max_tokens or 0,
            sampling=request.sampling,
            seed=seed,
            ignore_eos=True,
        )
        pieces, reason, tokens = self._script.pieces(prompt, request.stop)
        entry = Entry(order, prompt, pieces, reason, tokens)
        self.jobs[job_id] = entry
        self._prompts.setdefault((prompt.token_ids, seed), []).append(entry)

    def _look(self, job_id: str, me: bytes, epoch: int | None) -> None:
        entry = self.jobs.get(job_id)
        if entry is None:
            return
        told = self.ask("XRANGE", f"{PREFIX}log:{job_id}", f"{entry.last + 1}-0", "+")
        for name, (_, data) in told:
            self._expect(job_id, name == b"%d-0" % (entry.last + 1), f"{name!r} after {entry.last}")
            self._expect(job_id, entry.ended is None, f"an event after its end: {entry.ended}")
            entry.last += 1
            self._write(job_id, entry, decode_event(data))
        if told and epoch is not None:
            self._check_writer(job_id, entry, me, epoch)

    def _check_told(self, job_id: str, epoch: bytes) -> None:
        """Who was replaced must not be told that it has written."""
        [newest] = self.ask("HMGET", f"{PREFIX}job:{job_id}", "epoch")
        self._expect(job_id, newest == epoch, f"written in epoch {epoch!r}, after {newest!r}")

    def _check_writer(self, job_id: str, entry: Entry, me: bytes, epoch: int) -> None:
        known = self.ask("HMGET", f"{PREFIX}job:{job_id}", "epoch", "holder", "acknowledged")
        writer = entry.writers.setdefault(epoch, me)
        newest = int(known[0]) == epoch and known[1] == me == writer and epoch >= entry.epoch
        what = f"{me!r} wrote {entry.last} in epoch {epoch}; it is {known[:2]}, and {writer!r} has"
        self._expect(job_id, newest, what)
        entry.epoch = epoch
        if entry.ended in (None, "finished"):
            self._check_bounds(job_id, entry, int(known[2]))

    def _check_bounds(self, job_id: str, entry: Entry, acknowledged: int) -> None:
        ahead, window = entry.last - acknowledged, entry.order.window
        told = f"{ahead} events beyond what was acknowledged"
        self._expect(job_id, window is None or ahead <= window, told)
        watching = self.ask("HVALS", f"{PREFIX}watch:{job_id}")
        furthest = max((int(each) for each in watching if each), default=None)
        if furthest is None or entry.last - furthest <= (entry.order.ahead or 0):
            entry.beyond_s = None
        elif entry.beyond_s is None:
            entry.beyond_s = trio.current_time()
        else:
            since_s = trio.current_time() - entry.beyond_s
            told = f"{entry.last} events, with the furthest reader at {furthest} for {since_s} s"
            self._expect(job_id, since_s <= self._patience_s, told)

    def _write(self, job_id: str, entry: Entry, event: Event) -> None:
        told = f"event {entry.last} is {event}, which should be of {entry.pieces}"
        if isinstance(event, Delta):
            right = entry.last <= len(entry.pieces) and entry.pieces[entry.last - 1] == event.text
            entry.through = event.through
        elif isinstance(event, Finished):
            whole = entry.last == len(entry.pieces) + 1 and event.through == entry.tokens
            right, entry.ended = whole and event.finish_reason == entry.reason, "finished"
        else:
            right = isinstance(event, Failed) and event.error.kind.code in REASONS
            entry.ended = event.error.kind.code if isinstance(event, Failed) else "?"
        self._expect(job_id, right, told)

    def _expect(self, job_id: str, condition: bool, what: str) -> None:
        if not condition:
            raise BrokenBookError(f"{job_id}: {what}")
