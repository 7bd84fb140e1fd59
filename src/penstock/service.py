"""What a server does, whatever the dialect and the wire: generate, list, report, drain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import trio

from penstock import pipeline
from penstock.access.allowance import Allowance
from penstock.access.ledger import Ledger, MemoryLedger
from penstock.accounting import account
from penstock.engine.text import TextStream
from penstock.engine_thread import EngineThread
from penstock.errors import MODEL_NOT_FOUND, UNAVAILABLE, PenstockError, invalid
from penstock.gauges import watch_gauges
from penstock.generation import Generation
from penstock.jobs.job import JobBounds
from penstock.jobs.jobs import Jobs
from penstock.jobs.memory import MemoryStore
from penstock.jobs.replay import Replay
from penstock.jobs.store import Log, MakeStore
from penstock.jobs.worker import Worker
from penstock.live import Live
from penstock.metrics import Metrics
from penstock.pipeline import Encoder, Pace, Sink
from penstock.progress import Progress
from penstock.requests import ANYBODY, Caller, GenerateRequest
from penstock.served import Offered, Served

DEFAULT_ALIAS = "default"
# What clients send when nobody chose a model: huggingface_hub "dummy", text-generation "tgi".
_ANY_MODEL = frozenset({"", DEFAULT_ALIAS, "dummy", "tgi"})

STUCK_S = 60.0
"""A turn is one step or one prompt chunk: seconds at the most."""
PROBE_S = 5.0

TERMINAL_S = 0.5
"""How long the last events of a drain may take to be written."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for: answers (n), bytes of a body, and time to send it in."""

    max_choices: int
    max_body_bytes: int
    body_deadline_s: float = 60.0


class Service:
    """Models behind admission, their decoders and the pipeline.

    The first of `models` is the one for whoever names none. All decode on `thread`, in turns.
    """

    def __init__(
        self,
        models: Sequence[Served],
        thread: EngineThread,
        *,
        limits: Limits,
        pace: Pace,
        job_bounds: JobBounds,
        make_store: MakeStore = MemoryStore,
        offered: Sequence[Offered] | None = None,
    ) -> None:
        self.models = {served.name: served for served in models}
        self.offered: dict[str, Offered] = {each.name: each for each in offered or models}
        self.limits = limits
        self.pace = pace
        self.ledger: Ledger = MemoryLedger()
        self.metrics = Metrics()
        self.draining = False
        self.jobs = Jobs(self, job_bounds, self.metrics, make_store)
        self._thread = thread
        self._live: dict[Live, None] = {}
        self._idle = trio.Event()
        self.closers: set[Callable[[], None]] = set()
        """Called when a drain is over, for connections that outlive their generations."""
        self._running = False
        watch_gauges(self.metrics, models, thread)
        for served in models:
            served.decoder.observe_release = self.metrics.release_s.observe

    def __repr__(self) -> str:
        return f"<Service {', '.join(self.models)} live={len(self._live)}>"

    async def run(self) -> None:
        """Decode for everybody, and run jobs, until cancelled."""
        self._running = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.jobs.run)
                if self.models and (shared := self.jobs.shared):
                    worker = Worker(self, shared, wall_s=self.jobs.bounds.wall_s)
                    nursery.start_soon(worker.run)
                for served in self.models.values():
                    nursery.start_soon(served.decoder.run)
        finally:
            self._running = False

    async def generate(
        self, request: GenerateRequest, encoder: Encoder, sink: Sink, live: Live | None = None
    ) -> Live:
        """Answer one request on `sink`; the terminal event has been written when this returns.

        Resource handling: place, slot and tasks are free when this returns or raises.
        Error handling: raises `PenstockError` for what can be refused before anything is written;
        later failures are written to the sink. Cancelling means that the reader went away.
        """
        live = live or Live()
        live.flow.observe_gap = self.metrics.itl_s.observe
        async with self.admit(request, live) as source:
            with self.accounted(live, source):
                await pipeline.run(live, source, encoder, sink, pace=self.pace)
        return live

    async def read(self, log: Log, after: int, encoder: Encoder, sink: Sink, reading: Live) -> None:
        """Answer with a job's events behind number `after`. The job outlives this reader."""
        with self._alive(reading):
            await pipeline.run(reading, Replay(log, after), encoder, sink, pace=self.pace)

    @asynccontextmanager
    async def admit(
        self, request: GenerateRequest, live: Live, before: Sequence[Progress] = ()
    ) -> AsyncIterator[Generation]:
        """A generation that has a place and is ready to be called. Raises `PenstockError`.

        It goes on behind what another process had come to `before`, if one had begun it.
        """
        caller = request.caller
        served = self.models[self.resolve(request.model, caller).name]
        self.check(request)
        with served.admission.place(request.n, caller) as place, self._alive(live):
            given = tuple(progress.tokens for progress in before)
            prompt = replace(await served.prepare(request), given=given)
            new_text = partial(TextStream, served.tokenizer.vocabulary, request.stop)
            async with Allowance(self.ledger, caller.account, caller.limits) as allowance:
                await allowance.begin(len(prompt.token_ids))
                spend = allowance.spend if caller.limits else None
                yield Generation(served.decoder, prompt, new_text, place.arrived, spend, before)

    @contextmanager
    def accounted(self, live: Live, source: Generation) -> Iterator[None]:
        """Count a generation when it starts and, by `live.terminal`, when it ends."""
        self.metrics.started.inc()
        try:
            yield
        finally:
            account(self.metrics, live, source)

    @contextmanager
    def _alive(self, live: Live) -> Iterator[None]:
        """What a drain waits for, and ends if it takes too long."""
        self._live[live] = None
        try:
            yield
        finally:
            del self._live[live]
            if self.draining and not self._live:
                self._idle.set()

    @property
    def default(self) -> Served:
        """The model that decodes for whoever names none."""
        return next(iter(self.models.values()))

    @property
    def decodes(self) -> bool:
        return bool(self.models)

    def room(self) -> Mapping[str, int]:
        """Free slots of each model, for jobs from elsewhere."""
        return {name: served.admission.room for name, served in self.models.items()}

    def most_tokens(self, request: GenerateRequest) -> int:
        """Of all answers to a request, whatever its prompt."""
        return request.n * self.resolve(request.model, request.caller).most_tokens(request)

    def resolve(self, model: str | None, caller: Caller = ANYBODY) -> Offered:
        """The model for what a client asked for, if it may have it. Raises `PenstockError`."""
        asked, allowed = model or "", self.allowed(caller)
        if served := allowed.get(asked):
            return served
        if allowed and (asked in _ANY_MODEL or asked.startswith(("http://", "https://"))):
            return next(iter(allowed.values()))
        names = ", ".join(repr(name) for name in allowed)
        raise PenstockError(
            MODEL_NOT_FOUND, f"no such model here; this server has {names}", param="model"
        )

    def allowed(self, caller: Caller) -> dict[str, Offered]:
        """The models that `caller` may use, by name."""
        return {
            name: served
            for name, served in self.offered.items()
            if not caller.models or name in caller.models
        }

    def check(self, request: GenerateRequest) -> None:
        """Whether this server takes such requests at all. Raises `PenstockError`."""
        if request.n > self.limits.max_choices:
            raise invalid("n", f"n must be at most {self.limits.max_choices} on this server")

    async def unready(self) -> str | None:
        """Why this server cannot take a request now, or None.

        A model that failed on everything in its last turn is asked for one token, so that a server
        from which the traffic was taken away can come back.
        """
        if self.draining:
            return "draining"
        if not self._running:
            return "loading"
        since_s = self._thread.since_s
        if since_s is not None and trio.current_time() - since_s > STUCK_S:
            return "the model does not come back from a step"
        for served in self.models.values():
            with trio.move_on_after(PROBE_S) as patience:
                works = await served.decoder.works()
            if patience.cancelled_caught or not works:
                return f"the model {served.name} fails"
        return None

    async def drain(self, drain_s: float) -> None:
        """Take no more requests, let streams finish for `drain_s`, then end those still running."""
        self.draining = True
        for served in self.models.values():
            served.admission.draining = True
        await self._wait_idle(drain_s)
        error = PenstockError(
            UNAVAILABLE, "the server is shutting down; ask again elsewhere", retry_after_s=5
        )
        for live in self._live:
            live.stop(error)
        await self._wait_idle(TERMINAL_S)
        for close in tuple(self.closers):
            close()

    async def _wait_idle(self, patience_s: float) -> None:
        if self._live:
            with trio.move_on_after(patience_s):
                await self._idle.wait()
