"""What streams do to each other, through the real decoder: `python bench/gaps.py`.

1. Eight streams run and a prompt of 900 tokens arrives: the longest gap between two tokens of a
   running stream, beside one chunk and one step measured alone.
2. Eight streams run and a prompt arrives: the time to its first token, beside its prefill alone
   and (chunks + 1) steps.
3. Sixteen readers on sixteen slots, alone and beside 48 streams that have stopped reading.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median

import trio
from intervals import interval

from penstock.decoder import Decoder
from penstock.engine.engine import Engine
from penstock.engine.model import Model, load_model
from penstock.engine_thread import EngineThread
from penstock.models import parse_model
from penstock.requests import Prompt, Sampling
from penstock.schedule import Schedule

CHUNK = 128
LONG = 900
RUNNING = 8
SLOTS, STOPPED = 16, 48
WARM = 5
"""Tokens of each running stream before anything arrives."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--prompts", type=int, nargs="+", default=[64, 512, LONG])
    parser.add_argument("--tokens", type=int, default=200, help="of each of the sixteen readers")
    options = parser.parse_args()
    _, folder = parse_model(options.model)
    model = load_model(folder, threads=options.threads)
    for length in options.prompts:
        arriving(model, length, options.rounds)
    stopped(model, options.rounds, options.tokens)


@dataclass
class Reader:
    """One stream and when it had each of its tokens."""

    prompt: Prompt
    asked_s: float = 0.0
    at_s: list[float] = field(default_factory=list)

    async def run(self, decoder: Decoder, most: int | None = None) -> None:
        """Read to the end, or `most` tokens and then none."""
        with decoder.open(self.prompt) as (sequence,):
            self.asked_s = time.perf_counter()
            for _ in range(most or self.prompt.max_tokens):
                await sequence.next_token()
                self.at_s.append(time.perf_counter())
            if most:
                await trio.sleep_forever()


def arriving(model: Model, length: int, rounds: int) -> None:
    engine = make_engine(model, RUNNING + 1)
    gaps, firsts, bounds, limits, tokens = [], [], [], [], []
    for number in range(rounds):
        chunks, step = alone(engine, length, number)
        late, gap, fewest = trio.run(beside_running, engine, length, number)
        gaps.append(gap / (max(chunks) + step))
        firsts.append(late)
        tokens.append(fewest)
        bounds.append(sum(chunks) + (len(chunks) + 1) * step)
        limits.append(late / bounds[-1])
    print(f"prompt of {length} tokens while {RUNNING} streams run, {rounds} rounds:")
    print(
        f"  {len(chunks)} chunks; tokens of each running stream meanwhile: at least {min(tokens)}"
    )
    print(f"  longest gap of a running stream / (longest chunk + step): {interval(gaps)}")
    print(
        f"  first token after {median(firsts) * 1e3:.1f} ms; prefill alone + (chunks + 1) steps is "
        f"{median(bounds) * 1e3:.1f} ms; ratio {interval(limits)}",
        flush=True,
    )


def alone(engine: Engine, length: int, seed: int) -> tuple[list[float], float]:
    """Seconds of each chunk of a prompt with nobody beside it, and of a step of those running."""
    running = [engine.open(make_prompt(8, i, 1000)) for i in range(RUNNING)]
    for sequence in running:
        engine.admit(sequence)
        engine.prefill(sequence)
    steps = [_timed(lambda: engine.step(running)) for _ in range(30)][WARM:]
    sequence = engine.open(make_prompt(length, 100 + seed, 1))
    engine.admit(sequence)
    chunks = [_timed(lambda: engine.prefill(sequence)) for _ in range(-(-length // CHUNK))]
    for each in (*running, sequence):
        engine.close(each)
    return chunks, median(steps)


def _timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


async def beside_running(engine: Engine, length: int, seed: int) -> tuple[float, float, int]:
    """Seconds to the first token of an arriving prompt; of the others meanwhile the longest gap
    between two tokens, and the fewest tokens that one of them got."""
    decoder = Decoder(engine, Schedule(RUNNING + 1), EngineThread())
    running = [Reader(make_prompt(8, i, 1000)) for i in range(RUNNING)]
    late = Reader(make_prompt(length, 100 + seed, 1))
    async with decoding(decoder) as streams:
        for reader in running:
            streams.start_soon(reader.run, decoder)
        await until(lambda: min(len(reader.at_s) for reader in running) >= WARM)
        await late.run(decoder)
        await trio.sleep(0.005)
    worst = max(
        after - before
        for reader in running
        for before, after in zip(reader.at_s, reader.at_s[1:], strict=False)
        if after >= late.asked_s and before <= late.at_s[0]
    )
    fewest = min(sum(late.asked_s < at <= late.at_s[0] for at in r.at_s) for r in running)
    return late.at_s[0] - late.asked_s, worst, fewest


async def until(true: Callable[[], bool]) -> None:
    """What is looked at has no event to wait for, and may not be slowed by having one."""
    while not true():  # noqa: ASYNC110
        await trio.sleep(0.001)


@asynccontextmanager
async def decoding(decoder: Decoder) -> AsyncIterator[trio.Nursery]:
    """A nursery for streams; when the block ends they are cancelled and give back their slots."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        async with trio.open_nursery() as streams:
            yield streams
            streams.cancel_scope.cancel()
        await trio.sleep(0.01)
        await until(lambda: decoder.resting)
        nursery.cancel_scope.cancel()


def stopped(model: Model, rounds: int, tokens: int) -> None:
    engine = make_engine(model, SLOTS, parked_kv_bytes=256 << 20)
    speeds: dict[int, list[float]] = {0: [], STOPPED: []}
    for number in range(rounds + 1):
        for count in (0, STOPPED) if number % 2 else (STOPPED, 0):
            speed = trio.run(readers_beside, engine, count, tokens)
            if number:
                speeds[count].append(speed)
    ratios = [beside / a for beside, a in zip(speeds[STOPPED], speeds[0], strict=True)]
    print(f"{SLOTS} readers on {SLOTS} slots, {tokens} tokens each, {rounds} pairs:")
    alone_s, beside_s = median(speeds[0]), median(speeds[STOPPED])
    print(f"  alone {alone_s:.0f} tok/s, beside {STOPPED} stopped {beside_s:.0f}")
    print(f"  ratio {interval(ratios)}")


async def readers_beside(engine: Engine, count: int, tokens: int) -> float:
    """Tokens a second of sixteen readers, between the last one's first and the first one's last."""
    decoder = Decoder(engine, Schedule(SLOTS), EngineThread())
    idle = [Reader(make_prompt(8, 1000 + i, 100)) for i in range(count)]
    readers = [Reader(make_prompt(8, i, tokens)) for i in range(SLOTS)]
    async with decoding(decoder) as streams:
        for reader in idle:
            streams.start_soon(reader.run, decoder, 4)
        await until(lambda: all(len(reader.at_s) == 4 for reader in idle) and decoder.resting)
        async with trio.open_nursery() as reading:
            for reader in readers:
                reading.start_soon(reader.run, decoder)
    start, end = max(r.at_s[0] for r in readers), min(r.at_s[-1] for r in readers)
    if end <= start:
        raise SystemExit("one reader was done before the last one began; give more --tokens")
    return sum(start < at <= end for r in readers for at in r.at_s) / (end - start)


def make_engine(model: Model, slots: int, parked_kv_bytes: int = 0) -> Engine:
    return Engine(
        model, slots=slots, max_len=1024, prefill_chunk=CHUNK, parked_kv_bytes=parked_kv_bytes
    )


def make_prompt(length: int, seed: int, tokens: int) -> Prompt:
    ids = tuple((37 * i + 101 * seed) % 4000 + 8 for i in range(length))
    return Prompt(ids, tokens, Sampling(temperature=0), seed=0, ignore_eos=True)


if __name__ == "__main__":
    main()
