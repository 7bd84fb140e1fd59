"""A service without a model: it accepts and streams what workers elsewhere decode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from penstock import pipeline
from penstock.accounting import account_reader
from penstock.engine_thread import EngineThread
from penstock.errors import CANCELLED, PenstockError
from penstock.events import Failed, Terminal
from penstock.jobs.elsewhere import Elsewhere
from penstock.jobs.job import JobBounds, Order
from penstock.jobs.replay import Replay
from penstock.jobs.store import Log, MakeStore
from penstock.limits import Limits
from penstock.live import Live
from penstock.pipeline import Encoder, Pace, Sink
from penstock.requests import GenerateRequest
from penstock.served import Offered
from penstock.service import Service

ORPHANED_S = 10.0
"""A plain request is worked on for as long without its edge."""
KEPT_S = 3.0
"""Longer than a command of the store may take, such as the one that says that it is being read."""
LAST_WORD_S = 2.0


class EdgeService(Service):
    """Every request is a job in a shared store; a plain one ends with its connection."""

    def __init__(
        self,
        offered: Sequence[Offered],
        *,
        limits: Limits,
        pace: Pace,
        job_bounds: JobBounds,
        make_store: MakeStore,
        log_prompts: bool = False,
    ) -> None:
        self._offered = {each.name: each for each in offered}
        super().__init__(
            (),
            EngineThread(),
            limits=limits,
            pace=pace,
            job_bounds=job_bounds,
            make_store=make_store,
            log_prompts=log_prompts,
        )

    @property
    def offered(self) -> Mapping[str, Offered]:
        return self._offered

    async def generate(
        self, request: GenerateRequest, encoder: Encoder, sink: Sink, live: Live | None = None
    ) -> Live:
        """See `Service.generate`. What its reader has not seen is not decoded much longer."""
        self.check(request)
        live = live or Live()
        live.flow.observe_gap = self.metrics.itl_s.observe
        offered = self.resolve(request.model, request.caller)
        # Before it waits: what a tokenizer finds wrong is told at once, and its size is known.
        live.prompt_tokens = len(await offered.tokenise(request))
        order = Order(
            request=request,
            model=offered.name,
            owner=request.caller.scope,
            keep_s=KEPT_S,
            unread_s=ORPHANED_S,
            listed=False,
        )
        log = (await self.jobs.submit(order)).log
        try:
            with (
                self._lives.of(live),
                self.streams.read(live.name, live, Elsewhere(log, live.prompt_tokens)),
                self._total.of(live),
                self._queued.of(live, lambda: live.flow.delivered > 0),
            ):
                await pipeline.run(live, Replay(log, 0), encoder, sink, pace=self.pace)
        finally:
            account_reader(live, log.job.job_id)
            await _drop(log, live.terminal)
        return live

    async def unready(self) -> str | None:
        """Why this server cannot take a request now, or None."""
        if self.draining:
            return "draining"
        if not self._running:
            return "loading"
        shared = self.jobs.shared
        return "the store of jobs is away" if shared is None else shared.unready()


async def _drop(log: Log, terminal: Terminal | None) -> None:
    """Nobody reads it any more. Where that cannot be told, its writer comes to know by itself."""
    error = PenstockError(CANCELLED, "its reader has gone")
    if isinstance(terminal, Failed):
        error = terminal.error
    with trio.move_on_after(LAST_WORD_S, shield=True):
        try:
            await log.refuse(error)
        except PenstockError:
            return
