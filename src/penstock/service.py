"""What a server does, whatever the dialect and the wire: generate, list, report, drain."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import trio

from penstock import pipeline
from penstock.engine.text import TextStream
from penstock.engine_thread import EngineThread
from penstock.errors import MODEL_NOT_FOUND, UNAVAILABLE, PenstockError, invalid
from penstock.gauges import watch_gauges
from penstock.generation import Generation
from penstock.live import Live
from penstock.metrics import Metrics
from penstock.pipeline import Encoder, Pace, Sink
from penstock.requests import GenerateRequest
from penstock.served import Served

log = logging.getLogger(__name__)

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
    """What one request may ask for: answers (n), and bytes of a body."""

    max_choices: int
    max_body_bytes: int


class Service:
    """Models behind admission, their decoders and the pipeline.

    The first of `models` is the one for whoever names none. All decode on `thread`, in turns.
    """

    def __init__(
        self, models: Sequence[Served], thread: EngineThread, *, limits: Limits, pace: Pace
    ) -> None:
        self.models = {served.name: served for served in models}
        self.default = models[0]
        self.limits = limits
        self.pace = pace
        self.metrics = Metrics()
        self.draining = False
        self._thread = thread
        self._live: set[Live] = set()
        self._idle = trio.Event()
        self.closers: set[Callable[[], None]] = set()
        """Called when a drain is over, for connections that outlive their generations."""
        self._running = False
        watch_gauges(self.metrics, models, thread)

    def __repr__(self) -> str:
        return f"<Service {', '.join(self.models)} live={len(self._live)}>"

    async def run(self) -> None:
        """Decode for everybody until cancelled."""
        self._running = True
        try:
            async with trio.open_nursery() as nursery:
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
        served = self.resolve(request.model)
        self.check(request)
        with served.admission.place(request.n) as place, self._alive(live):
            prompt = await served.prepare(request)
            shown = served.speech.shown(request)
            new_text = partial(TextStream, served.tokenizer.vocabulary, request.stop, shown)
            source = Generation(served.decoder, prompt, new_text, place.arrived)
            self.metrics.started.inc()
            try:
                await pipeline.run(live, source, encoder, sink, pace=self.pace)
            finally:
                self._account(live, source)
        return live

    @contextmanager
    def _alive(self, live: Live) -> Iterator[None]:
        """What a drain waits for, and ends if it takes too long."""
        self._live.add(live)
        try:
            yield
        finally:
            self._live.discard(live)
            if self.draining and not self._live:
                self._idle.set()

    def resolve(self, model: str | None) -> Served:
        """The model for what a client asked for. Raises `PenstockError`."""
        asked = model or ""
        if served := self.models.get(asked):
            return served
        if asked in _ANY_MODEL or asked.startswith(("http://", "https://")):
            return self.default
        names = ", ".join(repr(name) for name in self.models)
        raise PenstockError(
            MODEL_NOT_FOUND, f"no such model here; this server has {names}", param="model"
        )

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

    def _account(self, live: Live, source: Generation) -> None:
        """The one place where an ending is counted and logged."""
        reason = self.metrics.count_end(live.terminal)
        self.metrics.prompt_tokens.inc(len(source.prompt.token_ids))
        self.metrics.tokens.inc(source.made)
        log.info(
            "generation ended",
            extra={
                "reason": reason,
                "prompt_tokens": len(source.prompt.token_ids),
                "completion_tokens": source.made,
            },
        )
