"""Stand-ins that tests share: prompts, references, engines that are watched, sinks that block."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio
import trio.testing

from penstock.decoder import Decoder
from penstock.engine.engine import Engine
from penstock.engine.interrupt import Interrupt
from penstock.engine.model import Model
from penstock.engine.sequence import EngineSequence, Result, Sampled
from penstock.engine_thread import EngineThread
from penstock.events import Delta, Event, Finished
from penstock.requests import Prompt, Sampling
from penstock.schedule import Schedule

CHUNK = 16
MAX_LEN = 192


def make_prompt(
    length: int = 5,
    *,
    max_tokens: int = 12,
    seed: int = 0,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    ignore_eos: bool = True,
) -> Prompt:
    """A prompt of made-up ids, different for each seed."""
    return Prompt(
        token_ids=(0, *((37 * i + 101 * seed) % 4000 + 8 for i in range(length - 1))),
        max_tokens=max_tokens,
        sampling=Sampling(temperature=temperature, top_k=top_k, top_p=top_p),
        seed=seed,
        ignore_eos=ignore_eos,
    )


def make_engine(
    model: Model, *, slots: int = 16, parked_kv_bytes: int = 0, prefix_cache_bytes: int = 0
) -> Engine:
    return Engine(
        model,
        slots=slots,
        max_len=MAX_LEN,
        prefill_chunk=CHUNK,
        parked_kv_bytes=parked_kv_bytes,
        prefix_cache_bytes=prefix_cache_bytes,
    )


def start(engine: Engine, prompt: Prompt, choice: int = 0) -> tuple[EngineSequence, Sampled]:
    """A sequence with a slot, and its first token."""
    sequence = engine.open_choices(prompt)[choice]
    engine.admit(sequence)
    result = None
    while result is None:
        result = engine.prefill(sequence)
    return sequence, sampled(result)


def sampled(result: Result) -> Sampled:
    assert isinstance(result, Sampled)
    return result


def alone(engine: Engine, prompt: Prompt, choice: int = 0) -> list[Sampled]:
    """The reference: what one choice of `prompt` gives with nobody beside it."""
    sequence, first = start(engine, prompt, choice)
    made = [first]
    while made[-1].end is None:
        made += map(sampled, engine.step([sequence]))
    engine.close(sequence)
    return made


class WatchedEngine(Engine):
    """The real engine, with a record of which prompts were in which turn."""

    def __init__(self, model: Model, *, slots: int = 16, parked_kv_bytes: int = 0) -> None:
        super().__init__(
            model,
            slots=slots,
            max_len=MAX_LEN,
            prefill_chunk=CHUNK,
            parked_kv_bytes=parked_kv_bytes,
        )
        self.turns: list[list[Prompt]] = []

    def prefill(self, sequence: EngineSequence, interrupt: Interrupt | None = None) -> Result:
        self.turns.append([sequence.prompt])
        return super().prefill(sequence, interrupt)

    def step(self, sequences: Sequence[EngineSequence]) -> list[Result]:
        self.turns.append([sequence.prompt for sequence in sequences])
        return super().step(sequences)

    def turns_of(self, prompt: Prompt) -> int:
        return sum(prompt in turn for turn in self.turns)


class GatedEngine(WatchedEngine):
    """The real engine, one turn for each permit that a test gives."""

    def __init__(self, model: Model, *, slots: int = 16) -> None:
        super().__init__(model, slots=slots)
        self.permits = threading.Semaphore(0)
        self.entered = 0

    def prefill(self, sequence: EngineSequence, interrupt: Interrupt | None = None) -> Result:
        self._pass()
        return super().prefill(sequence, interrupt)

    def step(self, sequences: Sequence[EngineSequence]) -> list[Result]:
        self._pass()
        return super().step(sequences)

    def _pass(self) -> None:
        self.entered += 1
        assert self.permits.acquire(timeout=20), "the test gave no permit"


def make_decoder(engine: Engine, *, slots: int = 16, lookahead: int = 1) -> Decoder:
    return Decoder(engine, Schedule(slots, lookahead=lookahead), EngineThread())


async def settled(decoder: Decoder) -> None:
    """Return when every task is blocked and nobody wants a token."""
    with trio.fail_after(20):
        await trio.testing.wait_all_tasks_blocked()
        while not decoder.resting:
            await trio.testing.wait_all_tasks_blocked()


@dataclass
class GatedSink:
    """Takes `permits` writes, then blocks like a reader that has stopped reading."""

    permits: float = 0
    written: list[Event | None] = field(default_factory=list)
    blocked: bool = False
    opened: bool = False
    released: bool = False
    _more: trio.Event = field(default_factory=trio.Event)

    async def open(self) -> None:
        self.opened = True

    async def permit(self, event: Event | None) -> bool:
        return True

    async def write(self, data: bytes, event: Event | None) -> None:
        assert self.opened
        await trio.lowlevel.checkpoint()
        while self.permits <= 0:
            self.blocked, self._more = True, trio.Event()
            await self._more.wait()
        self.blocked = False
        self.permits -= 1
        self.written.append(event)

    def release(self) -> None:
        self.released = True

    def allow(self, writes: float) -> None:
        self.permits += writes
        self._more.set()

    @property
    def through(self) -> int:
        """Index of the last token that a completed write covers."""
        covered = [event.through for event in self.written if isinstance(event, Delta | Finished)]
        return max(covered, default=0)

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.written if isinstance(event, Delta))


class PlainEncoder:
    """One byte for each event, so that every event is written."""

    def encode(self, event: Event) -> bytes:
        return b"e"

    def heartbeat(self) -> bytes:
        return b"h"
