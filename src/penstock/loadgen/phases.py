"""Runs readers by themselves and among neighbours, in phases by turns."""

from __future__ import annotations

import trio

from penstock.loadgen.isolation import Phase, Trial
from penstock.loadgen.reader import Readers
from penstock.loadgen.runner import Runner


async def run_phases(trial: Trial, readers: Readers, runner: Runner) -> list[Phase]:
    """Run all phases; which comes first alternates, so that a drift favours neither."""
    phases: list[Phase] = []
    async with trio.open_nursery() as nursery:
        for _ in range(trial.readers):
            nursery.start_soon(runner.repeat, "reader", float("inf"))
        for pair in range(trial.pairs):
            first = await _run_phase(trial, pair % 2 == 1, readers, runner)
            phases += [first, await _run_phase(trial, pair % 2 == 0, readers, runner)]
        # Who asked at the very end has as long to wait for its first token.
        await trio.sleep(trial.settle_s)
        nursery.cancel_scope.cancel()
    return phases


async def _run_phase(trial: Trial, among: bool, readers: Readers, runner: Runner) -> Phase:
    async with trio.open_nursery() as nursery:
        for kind in trial.neighbours if among else ():
            nursery.start_soon(runner.repeat, kind, float("inf"))
        await trio.sleep(trial.settle_s)
        start_s = readers.now_s()
        await trio.sleep(trial.phase_s)
        end_s = readers.now_s()
        nursery.cancel_scope.cancel()
    return Phase(among, start_s, end_s)
