"""A trace of requests, through the real decoder: continuous batching."""

from __future__ import annotations

import time
from typing import Any

import trio

from penstock.decoder import Decoder
from penstock.engine.engine import Engine
from penstock.engine_thread import EngineThread
from penstock.requests import Prompt, Sampling
from penstock.schedule import Schedule


def replay(engine: Engine, requests: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds from the first arrival to the last token, and the mean wait for a first token."""
    return trio.run(_replay, engine, requests)


async def _replay(engine: Engine, requests: list[dict[str, Any]]) -> dict[str, float]:
    decoder = Decoder(engine, Schedule(len(engine.slots.lengths)), EngineThread())
    waits: list[float] = []

    async def one(request: dict[str, Any]) -> None:
        await trio.sleep_until(started + request["arrival_s"])
        prompt = Prompt(
            tuple(request["ids"]), request["output"], Sampling(temperature=0), 0, ignore_eos=True
        )
        with decoder.open(prompt) as (sequence,):
            await sequence.next_token()
            waits.append(trio.current_time() - started - request["arrival_s"])
            for _ in range(request["output"] - 1):
                await sequence.next_token()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        started = trio.current_time()
        clock = time.perf_counter()
        async with trio.open_nursery() as readers:
            for request in requests:
                readers.start_soon(one, request)
        taken = time.perf_counter() - clock
        nursery.cancel_scope.cancel()
    return {"seconds": taken, "first_token_s": sum(waits) / len(waits)}
