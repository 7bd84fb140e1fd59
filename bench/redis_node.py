"""What one Redis carries: events a second, its CPU an event, its memory a job and an event.

    python bench/redis_node.py [--fsync always everysec no] [--writers 1 2 4] [--readers 0 1]

Writers append to jobs with the server's own store, each job its next event as soon as the last one
is in, as workers do whose model takes no time. Readers, in other processes, read all of them as
edges do.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import trio

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.redis_server import RedisServer, redis_server

from penstock.events import Delta, Event, Finished, Token, Usage
from penstock.jobs.job import Job, JobBounds, Order
from penstock.jobs.redis.address import parse_address
from penstock.jobs.redis.log import RedisLog
from penstock.jobs.redis.store import RedisStore
from penstock.requests import GenerateRequest

BOUNDS = JobBounds(
    window=256, wall_s=3600, keep_s=600, resume_window_s=30, max_jobs=10**6, log_bytes=1 << 40
)
PROMPT = "Once upon a time there was a dog who lived by a lake. " * 4
WARM_S = 0.5


def event(number: int) -> Event:
    return Delta(" there", (Token(1234),), number)


def job(name: str) -> Job:
    order = Order(request=GenerateRequest(prompt=PROMPT), model="default", keep_s=600)
    return Job(name, order, 512)


@dataclass(frozen=True, slots=True)
class Load:
    """How one run is shared out."""

    writers: int
    readers: int
    jobs: int
    """Of each writer, all at once: the rows of its model's step."""
    seconds: float

    def names(self, writer: int) -> list[str]:
        return [f"job_{writer}_{number}" for number in range(self.jobs)]


async def write(store: RedisStore, name: str, written: list[int]) -> None:
    log = await store.create(job(name))
    epoch = await log.claim()
    while True:
        written[0] += 1
        await log.append(epoch, event(written[0]))


async def read(store: RedisStore, name: str, taken: list[int]) -> None:
    log: RedisLog | None = None
    while log is None:
        await trio.sleep(0.02)
        log = await store.find(name)
    after = 0
    with log.attach() as position:
        while True:
            events = await log.read(after, 16)
            after += len(events)
            taken[0] += len(events)
            position.move(after)


async def work(url: str, kind: str, names: Sequence[str], seconds: float) -> None:
    """A child: says how many events it handled while it was told to count."""
    store, count = RedisStore(parse_address(url), BOUNDS), [0]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        await store.link.there.wait()
        for name in names:
            nursery.start_soon(write if kind == "write" else read, store, name, count)
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        await trio.sleep(WARM_S)
        before = count[0]
        await trio.sleep(seconds)
        print(count[0] - before, flush=True)
        os._exit(0)


@contextmanager
def child(url: str, kind: str, names: Sequence[str], load: Load) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, __file__, "--child", kind, url, str(load.seconds), *names]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"a child ended: {process.communicate()[1]}")
    return line


def run(redis: RedisServer, load: Load) -> tuple[float, float, float]:
    """Events a second written, those read by each reader, and seconds of Redis's CPU in one."""
    redis.ask("FLUSHALL")
    everything = [name for writer in range(load.writers) for name in load.names(writer)]
    with ExitStack() as stack:
        start = [("write", load.names(writer)) for writer in range(load.writers)]
        start += [("read", everything)] * load.readers
        children = [stack.enter_context(child(redis.url, *each, load)) for each in start]
        for each in children:
            line_of(each)
        for each in children:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        time.sleep(WARM_S)
        cpu_s, began_s = cpu_of(redis), time.perf_counter()
        counts = [int(line_of(each)) for each in children]
        took_s = time.perf_counter() - began_s
        cpu_s = cpu_of(redis) - cpu_s
    written, taken = sum(counts[: load.writers]), counts[load.writers :]
    return written / load.seconds, sum(taken) / load.seconds, cpu_s / took_s


def cpu_of(redis: RedisServer) -> float:
    return redis.info("used_cpu_user") + redis.info("used_cpu_sys")


async def fill(url: str, jobs: int, events: int, *, end: bool) -> None:
    store = RedisStore(parse_address(url), BOUNDS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        await store.link.there.wait()
        for number in range(jobs):
            log = await store.create(job(f"job_{number:032x}"))
            epoch = await log.claim()
            for at in range(1, events + 1):
                await log.append(epoch, event(at))
            if end:
                await log.append(epoch, Finished("stop", Usage(64, events), events))
        nursery.cancel_scope.cancel()


def memory_of(folder: Path, jobs: int, events: int, *, end: bool) -> float:
    """Bytes that a job takes."""
    with redis_server(folder) as redis:
        trio.run(lambda: fill(redis.url, 2, events, end=end))
        redis.ask("FLUSHALL")
        before = redis.memory_bytes()
        trio.run(lambda: fill(redis.url, jobs, events, end=end))
        return (redis.memory_bytes() - before) / jobs


def fsync_us(folder: Path) -> float:
    """What the disk takes for one small write."""
    took = []
    with (folder / "probe").open("wb") as file:
        for _ in range(200):
            file.write(b"x" * 300)
            file.flush()
            began_s = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - began_s)
    return 1e6 * median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fsync", nargs="+", default=["always", "everysec", "no"])
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--readers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--jobs", type=int, nargs="+", default=[16], help="of each writer")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--kept", type=int, default=500, help="jobs that memory is measured with")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        print(f"fsync of one small write: {fsync_us(folder):.0f} µs\n")
        print(
            "| appendfsync | writers × jobs | readers | events/s | read/s | Redis CPU | µs/event |"
        )
        print("|---|---|---|---|---|---|---|")
        for fsync in asked.fsync:
            (folder / fsync).mkdir()
            with redis_server(folder / fsync, durable=True, fsync=fsync) as redis:
                for writers in asked.writers:
                    for jobs in asked.jobs:
                        for readers in asked.readers:
                            load = Load(writers, readers, jobs, asked.seconds)
                            wrote_s, read_s, busy = run(redis, load)
                            print(
                                f"| {fsync} | {writers} × {jobs} | {readers} | {wrote_s:,.0f} "
                                f"| {read_s:,.0f} | {busy:.0%} | {1e6 * busy / wrote_s:.0f} |",
                                flush=True,
                            )
        (folder / "memory").mkdir()
        bare = memory_of(folder / "memory", asked.kept, 0, end=False)
        ended = memory_of(folder / "memory", asked.kept, 0, end=True)
        full = memory_of(folder / "memory", max(asked.kept // 5, 1), 512, end=True)
        print(
            f"\nmemory: {bare:,.0f} bytes a job that waits (prompt of {len(PROMPT)} characters), "
        )
        print(f"{ended:,.0f} one that has ended, and {(full - ended) / 512:.0f} an event")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _, _, kind, url, seconds, *names = sys.argv
        trio.run(work, url, kind, names, float(seconds))
    else:
        main()
