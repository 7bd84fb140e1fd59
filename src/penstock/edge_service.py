"""A service without a model: it accepts and streams what workers elsewhere decode."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from penstock import pipeline
from penstock.engine_thread import EngineThread
from penstock.errors import CANCELLED, PenstockError
from penstock.jobs.job import JobBounds, Order
from penstock.jobs.replay import Replay
from penstock.jobs.store import Log, MakeStore
from penstock.live import Live
from penstock.pipeline import Encoder, Pace, Sink
from penstock.requests import GenerateRequest
from penstock.served import Offered
from penstock.service import Limits, Service

ORPHANED_S = 10.0
"""A plain request is worked on for as long without its edge."""
KEPT_S = 1.0
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
    ) -> None:
        super().__init__(
            (),
            EngineThread(),
            limits=limits,
            pace=pace,
            job_bounds=job_bounds,
            make_store=make_store,
            offered=offered,
        )

    async def generate(
        self, request: GenerateRequest, encoder: Encoder, sink: Sink, live: Live | None = None
    ) -> Live:
        """See `Service.generate`. What its reader has not seen is not decoded much longer."""
        self.check(request)
        live = live or Live()
        live.flow.observe_gap = self.metrics.itl_s.observe
        order = Order(
            request=request,
            model=self.resolve(request.model, request.caller).name,
            keep_s=KEPT_S,
            unread_s=ORPHANED_S,
            listed=False,
        )
        log = (await self.jobs.submit(order)).log
        self.metrics.started.inc()
        try:
            with self._alive(live):
                await pipeline.run(live, Replay(log, 0), encoder, sink, pace=self.pace)
        finally:
            self.metrics.count_end(live.terminal)
            await _drop(log)
        return live

    async def unready(self) -> str | None:
        """Why this server cannot take a request now, or None."""
        if self.draining:
            return "draining"
        if not self._running:
            return "loading"
        shared = self.jobs.shared
        return "the store of jobs is away" if shared is None or shared.away() else None


async def _drop(log: Log) -> None:
    """Nobody reads it any more. Where that cannot be told, its writer comes to know by itself."""
    with trio.move_on_after(LAST_WORD_S, shield=True):
        try:
            await log.refuse(PenstockError(CANCELLED, "its reader has gone"))
        except PenstockError:
            return
