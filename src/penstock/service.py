"""What a server does, whatever the dialect and the wire: generate, list, report, drain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial

import trio

from penstock import origin, pipeline
from penstock.access.allowance import Allowance
from penstock.accounting import Trace, account, account_reader, refuse, untraced
from penstock.admission import Room
from penstock.charging import charged
from penstock.choosing import allowed, choose
from penstock.deadlines import Deadline
from penstock.ending import Asked
from penstock.engine.text import TextStream
from penstock.engine_thread import EngineThread
from penstock.errors import UNAVAILABLE, PenstockError, invalid
from penstock.gauges import watch_gauges
from penstock.generation import Generation
from penstock.jobs.elsewhere import Elsewhere
from penstock.jobs.job import JobBounds
from penstock.jobs.jobs import Jobs
from penstock.jobs.memory import MemoryStore
from penstock.jobs.replay import Replay
from penstock.jobs.store import Log, MakeStore
from penstock.jobs.worker import Worker
from penstock.limits import Limits, Use
from penstock.live import Live
from penstock.lives import Lives
from penstock.metrics import Metrics
from penstock.pipeline import Encoder, Pace, Sink
from penstock.progress import Progress
from penstock.readiness import find_fault
from penstock.requests import ANYBODY, Caller, GenerateRequest
from penstock.served import Offered, Served
from penstock.streams import Streams

TERMINAL_S = 0.3
"""How long the last events of a drain may take to be written. With the time for closing and that
for the process to end, a server is gone within a second after its drain."""


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
        log_prompts: bool = False,
    ) -> None:
        self.models = {served.name: served for served in models}
        self.limits = limits
        self.pace = pace
        self.metrics = Metrics()
        self.trace: Trace = untraced
        self.draining = False
        self.streams = Streams()
        self.anonymous = True
        """Whether one may generate without saying who one is."""
        self.jobs = Jobs(self, job_bounds, self.metrics, make_store)
        self.ledger = self.jobs.store.ledger
        self._log_prompts = log_prompts
        self._queued = Deadline(limits.queue_deadline_s, "no slot was free in time; try again")
        self._total = Deadline(limits.total_deadline_s, "the request took longer than it may")
        self._thread = thread
        self._lives = Lives()
        self.closers: set[Callable[[], None]] = set()
        """Called when a drain is over, for connections that outlive their generations."""
        self._running = False
        watch_gauges(self.metrics, models, thread)
        for served in models:
            served.decoder.observe_release = self.metrics.release_s.observe

    def __repr__(self) -> str:
        return f"<Service {', '.join(self.models)} live={len(self._lives)}>"

    async def run(self) -> None:
        """Decode for everybody, and run jobs, until cancelled."""
        self._running = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.jobs.run)
                nursery.start_soon(self.ledger.run)
                if self.models and (shared := self.jobs.shared):
                    worker = Worker(self, shared, wall_s=self.jobs.bounds.wall_s)
                    nursery.start_soon(worker.run)
                nursery.start_soon(self._queued.run)
                nursery.start_soon(self._total.run)
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
            with (
                self.accounted(live, source),
                self.streams.read(live.name, live),
                self._total.of(live),
            ):
                await pipeline.run(live, source, encoder, sink, pace=self.pace)
        return live

    async def read(self, log: Log, after: int, encoder: Encoder, sink: Sink, reading: Live) -> None:
        """Answer with a job's events behind number `after`. The job outlives this reader."""
        with self._lives.of(reading), self.streams.read(log.job.job_id, reading, Elsewhere(log)):
            try:
                await pipeline.run(reading, Replay(log, after), encoder, sink, pace=self.pace)
            finally:
                account_reader(reading, log.job.job_id)

    @asynccontextmanager
    async def admit(
        self, request: GenerateRequest, live: Live, before: Sequence[Progress] = (), job: str = ""
    ) -> AsyncIterator[Generation]:
        """A generation that has a place and is ready to be called. Raises `PenstockError`.

        It goes on behind what another process had come to `before`, if one had begun it.
        """
        caller = request.caller
        # Of one that goes on, whoever began it has seen to that.
        if not (self.anonymous or caller.account or before):
            raise RuntimeError("a route has not said on whose account it generates")
        served = self.models[self.resolve(request.model, caller).name]
        self.check(request)
        with served.admission.place(request.n, caller) as place, self._lives.of(live):
            given = tuple(progress.tokens for progress in before)
            prompt = replace(await served.prepare(request), given=given)
            live.prompt_tokens = len(prompt.token_ids)
            shown = served.speech.shown(request)
            new_text = partial(TextStream, served.tokenizer.vocabulary, request.stop, shown)
            allowance = Allowance.of(self.ledger, request, self.limits.tokens_per_minute, job)
            asked = self._told_of(request, served, live)
            told = (served.decoder, prompt, new_text, place.arrived)
            make = partial(Generation, *told, asked=asked, before=before)
            async with charged(allowance, prompt, live, make) as source:
                yield source

    @contextmanager
    def accounted(self, live: Live, source: Generation) -> Iterator[None]:
        """Count a generation when it starts and, by `live.terminal`, when it ends."""
        self.metrics.started.inc()
        try:
            queued = self._queued.of(live, spares=lambda: not source.waits)
            with self.streams.running(live.name, source), queued:
                yield
        finally:
            account(self.metrics, self.trace, live, source)

    def refused(self, error: PenstockError) -> None:
        """Count and log that the request which is being served was refused."""
        refuse(self.metrics, error, origin.current())

    def _told_of(self, request: GenerateRequest, served: Served, live: Live) -> Asked:
        chat = request.messages is not None
        text = request.told_prompt if self._log_prompts else None
        return Asked(served.name, live.flow.began_s, chat, text)

    @property
    def offered(self) -> Mapping[str, Offered]:
        """The models that clients may ask for, wherever they decode."""
        return self.models

    @property
    def default(self) -> Served:
        """The model that decodes for whoever names none."""
        return next(iter(self.models.values()))

    @property
    def decodes(self) -> bool:
        return bool(self.models)

    def room(self) -> Mapping[str, Room]:
        """Slots of each model, for jobs from elsewhere."""
        return {name: served.admission.room for name, served in self.models.items()}

    def most_tokens(self, request: GenerateRequest) -> int:
        """Of all answers to a request, whatever its prompt."""
        return request.n * self.resolve(request.model, request.caller).most_tokens(request)

    def resolve(self, model: str | None, caller: Caller = ANYBODY) -> Offered:
        """The model for what a client asked for, if it may have it. Raises `PenstockError`."""
        return choose(self.offered, model, caller)

    def allowed(self, caller: Caller) -> dict[str, Offered]:
        """The models that `caller` may use, by name."""
        return allowed(self.offered, caller)

    async def usage(self, caller: Caller) -> Use:
        """What `caller` has used of its limits."""
        used = {each: await self.ledger.used(caller.account, each) for each in caller.limits}
        if caller.limits or caller.streams:
            return Use(used, await self.ledger.places(caller.account))
        models = self.models.values()
        return Use(used, sum(served.admission.held_by(caller.account) for served in models))

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
        return await find_fault(self._thread, self.models.values())

    async def drain(self, drain_s: float) -> None:
        """Take no more requests, let streams finish for `drain_s`, then end those still running."""
        self.draining = True
        for served in self.models.values():
            served.admission.draining = True
        await self._lives.wait_gone(drain_s)
        error = PenstockError(
            UNAVAILABLE, "the server is shutting down; ask again elsewhere", retry_after_s=5
        )
        self._lives.stop(error)
        await self._lives.wait_gone(TERMINAL_S)
        for close in tuple(self.closers):
            close()
