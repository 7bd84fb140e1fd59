"""What a server is seen to go on doing, on virtual time: its CPU time and its metrics are known."""

from __future__ import annotations

import os
import time

import pytest
import trio
import trio.testing

from penstock.errors import reraise_single
from penstock.loadgen.departures import DepartureError, Departures
from penstock.loadgen.lengths import Uniform
from penstock.loadgen.plan import Plan, Shape
from penstock.loadgen.probes import Seen, cpu_s, read_metrics
from penstock.loadgen.reader import Habits
from penstock.loadgen.wake import Wake, Way

from .servers import HEAD, Line, MemoryServer, Serve, chunked, event, finish

PIECES = 100
SHAPE = Shape(output=Uniform(PIECES, PIECES), stopped_tokens=PIECES, leaves_after=Uniform(8, 8))


class Worker:
    """A server that works 0.1 s for each of 100 tokens, whether it `notices` for whom or not."""

    def __init__(self, *, notices: bool) -> None:
        self.notices = notices
        self.made = 0
        self.busy = 0
        self.working_s = 0.0

    async def serve(self, line: Line) -> None:
        self.busy += 1
        try:
            await (self._in_step(line) if self.notices else self._regardless(line))
        finally:
            self.busy -= 1

    def cpu_s(self) -> float:
        """Time in which this server worked, up to now."""
        return self.working_s

    async def look(self) -> Seen:
        return Seen("test", self.busy, self.made)

    async def _in_step(self, line: Line) -> None:
        await line.say(HEAD)
        for _ in range(PIECES):
            await self._make()
            await line.say(chunked(event("a")))
        await line.say(chunked(finish()))

    async def _regardless(self, line: Line) -> None:
        """Makes everything, and hands over on the side."""
        send, receive = trio.open_memory_channel[bytes](PIECES)

        async def hand_over() -> None:
            try:
                await line.say(HEAD)
                async for piece in receive:
                    await line.say(piece)
            except trio.BrokenResourceError:
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hand_over)
            for _ in range(PIECES):
                await self._make()
                send.send_nowait(chunked(event("a")))
            nursery.cancel_scope.cancel()

    async def _make(self) -> None:
        for _ in range(10):
            await trio.sleep(0.01)
            self.working_s += 0.01
        self.made += 1


async def watched(worker: Worker, way: Way, *, tries: int = 2) -> tuple[Wake, Wake]:
    """What is seen of it by its CPU time, and by its metrics."""
    async with trio.open_nursery() as nursery:
        readers = MemoryServer(nursery, worker.serve).readers(
            Habits(patience_s=float("inf"), hold_s=float("inf"))
        )
        departures = Departures(readers, Plan(0, SHAPE), 30)
        found = (
            await departures.by_cpu(way, tries, worker.cpu_s),
            await departures.by_metrics(way, tries, worker.look),
        )
        nursery.cancel_scope.cancel()
    return found


async def test_a_server_that_notices_is_at_rest_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    by_cpu, by_metrics = await watched(Worker(notices=True), "leaving")
    assert by_cpu.until_s.highest is not None
    assert by_cpu.until_s.highest <= 0.2
    assert by_metrics.until_s.highest is not None
    assert by_metrics.until_s.highest <= 0.2
    assert by_metrics.cost.highest is not None
    assert by_metrics.cost.highest <= 1


@pytest.mark.parametrize("way", ["leaving", "stopped"])
async def test_a_server_that_does_not_notice_makes_the_whole_answer(
    autojump_clock: trio.testing.MockClock, way: Way
) -> None:
    """All of the 100 tokens but those that were read: 8, or 1."""
    by_cpu, by_metrics = await watched(Worker(notices=False), way)
    left = PIECES - (8 if way == "leaving" else 1)
    assert by_cpu.until_s.p50 == pytest.approx(left / 10, abs=0.3)
    assert by_cpu.cost.p50 == pytest.approx(left / 10, abs=0.3)
    assert by_metrics.cost.p50 == pytest.approx(left, abs=3)
    assert by_cpu.tries == by_metrics.tries == 2


async def test_a_whole_answer_is_there_for_comparison(
    autojump_clock: trio.testing.MockClock,
) -> None:
    by_cpu, by_metrics = await watched(Worker(notices=True), "reader")
    assert by_cpu.cost.p50 == pytest.approx(10, abs=0.2)
    assert by_metrics.cost.p50 == PIECES


async def test_a_server_that_never_rests_is_not_said_to(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its CPU is busy all the time: all that is known is that the patience was not enough."""
    async with trio.open_nursery() as nursery:
        readers = MemoryServer(nursery, Worker(notices=True).serve).readers()
        departures = Departures(readers, Plan(0, SHAPE), 5)
        found = await departures.by_cpu("leaving", 1, trio.current_time)
        nursery.cancel_scope.cancel()
    assert (found.until_s.n, found.until_s.censored, found.until_s.p50) == (1, 1, None)


async def test_a_server_that_refuses_cannot_be_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def serve(line: Line) -> None:
        await line.say(b"HTTP/1.1 400 No\r\ncontent-length: 8\r\n\r\ntoo long")

    await expect_error(serve, "400 too long")


async def test_an_answer_that_ends_too_early_cannot_be_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def serve(line: Line) -> None:
        await line.say(HEAD + chunked(event("a") + finish()) + b"0\r\n\r\n")

    await expect_error(serve, "done")


async def expect_error(serve: Serve, told: str) -> None:
    async with trio.open_nursery() as nursery:
        departures = Departures(MemoryServer(nursery, serve).readers(), Plan(0, SHAPE), 5)
        with pytest.raises(ExceptionGroup) as raised:
            await departures.by_cpu("leaving", 1, trio.current_time)
    with pytest.raises(DepartureError, match=told):
        reraise_single(raised.value)


PENSTOCK = """
# TYPE penstock_active gauge
penstock_active 2.0
# TYPE penstock_waiting gauge
penstock_waiting 1.0
# TYPE penstock_decode_rows_total counter
penstock_decode_rows_total 77.0
"""
VLLM = """
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 1.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 40.0
"""
LLAMA = """
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 9
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 1
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 4
"""


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        (PENSTOCK, Seen("penstock", 3, 77)),
        (VLLM, Seen("vLLM", 3, 40)),
        (LLAMA, Seen("llama.cpp", 5, 9)),
        ("# TYPE other gauge\nother 1\n", None),
        ("<html>not found</html>", None),
        ("", None),
    ],
)
def test_metrics_of_servers_that_are_known(page: str, seen: Seen | None) -> None:
    assert read_metrics(page) == seen


def test_the_cpu_time_of_this_process_is_its_own() -> None:
    before, told = time.process_time(), cpu_s(os.getpid())
    assert before <= told <= time.process_time()


def test_a_process_that_is_not_there_is_named() -> None:
    with pytest.raises(OSError, match=f"process {2**22 + 1} cannot be seen"):
        cpu_s(2**22 + 1)
