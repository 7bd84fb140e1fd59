"""What is measured of each generation, in its metrics and its log line, with time in our hands."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.errors import internal
from penstock.events import Delta, Ended, Failed, Finished, Usage
from penstock.flow import Flow
from penstock.live import Live
from penstock.requests import GenerateRequest, Sampling
from penstock.service import Service
from penstock.settings import Settings
from tests.peers import GatedEngine, GatedSink, PlainEncoder, make_engine, settled

ASK = GenerateRequest(
    prompt="Once upon a time", max_tokens=20, sampling=Sampling(temperature=0), ignore_eos=True
)


def read(service: Service) -> dict[str, float]:
    """Every sample that is not of one bucket."""
    page = service.metrics.render().decode()
    return {
        sample.name.removeprefix("penstock_"): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if "le" not in sample.labels
    }


def make_service(model: Model, tokenizer: Tokenizer) -> Service:
    settings = Settings(slots=1, heartbeat_s=1e6, stall_deadline_s=1e6)
    return assemble(settings, "default", make_engine(model, slots=1), tokenizer)


async def test_a_flow_tells_gaps_from_blocked_writes(mock_clock: MockClock) -> None:
    flow, gaps = Flow(), list[float]()
    flow.observe_gap = gaps.append
    for through, (started_s, ended_s) in enumerate([(1, 1), (3, 7), (8, 8.5)], 1):
        flow.wrote(Delta("x", (), through), started_s, ended_s)
    assert gaps == [2, 1]
    assert (flow.blocked_s, flow.delivered) == (4.5, 3)
    flow.wrote(Delta("y", (), 2, choice=1), 9, 9)
    flow.wrote(Finished("stop", Usage(1, 6), 4), 10, 10)
    assert gaps == [2, 1, 0.5]
    assert flow.delivered == 4 + 2
    flow.wrote(Failed(internal()), 11, 13)
    assert (flow.delivered, flow.blocked_s) == (6, 6.5)


async def test_a_whole_answer_is_all_delivered(
    model: Model, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service(model, tokenizer)
    sink = GatedSink(permits=1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        with caplog.at_level(logging.INFO):
            await service.generate(ASK, PlainEncoder(), sink)
        nursery.cancel_scope.cancel()
    told = read(service)
    assert told["undelivered_tokens_total"] == 0
    assert told["generated_tokens_total"] == 20
    for name in ("queue_seconds", "time_to_first_token_seconds", "generation_seconds"):
        assert told[f"{name}_count"] == 1
    assert told["inter_token_seconds_count"] == len(sink.written) - 2
    (line,) = [each for each in caplog.records if each.message == "generation ended"]
    figures = vars(line)
    assert 0 <= figures["queue_s"] <= figures["ttft_s"] <= figures["total_s"]
    assert told["generation_seconds_sum"] == pytest.approx(figures["total_s"], abs=1e-6)
    assert told["time_to_first_token_seconds_sum"] == pytest.approx(figures["ttft_s"], abs=1e-6)


async def test_what_is_told_with_the_end_is_delivered_with_it(mock_clock: MockClock) -> None:
    """As for an answer in one piece, of which nothing is written before."""
    flow = Flow()
    flow.folded(Delta("x", (), 3))
    flow.folded(Ended("stop", 7, choice=1))
    assert flow.delivered == 0
    flow.wrote(Finished("stop", Usage(1, 12), 5), 1, 1)
    assert flow.delivered == 12


@pytest.mark.parametrize("n", [1, 3])
async def test_what_was_computed_for_a_reader_that_left_is_counted_as_undelivered(
    model: Model, tokenizer: Tokenizer, n: int
) -> None:
    service = make_service(model, tokenizer)
    decoder = service.default.decoder
    sink, live = GatedSink(permits=3), Live()
    request = replace(ASK, n=n, sampling=Sampling(seed=4))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        async with trio.open_nursery() as reader:
            reader.start_soon(service.generate, request, PlainEncoder(), sink, live)
            await settled(decoder)
            computed = sum(each.computed for each in decoder._readers.values())
            reader.cancel_scope.cancel()
        await settled(decoder)
        told = read(service)
        nursery.cancel_scope.cancel()
    covered = {event.choice: event.through for event in sink.written if isinstance(event, Delta)}
    assert computed > sum(covered.values())
    assert told["undelivered_tokens_total"] == computed - sum(covered.values())
    assert told["slot_release_seconds_count"] >= 1
    assert told["kv_tokens"] == 0


async def test_the_queue_is_measured_from_arrival_to_the_slot(
    model: Model, tokenizer: Tokenizer, mock_clock: MockClock
) -> None:
    engine = GatedEngine(model, slots=1)
    settings = Settings(slots=1, heartbeat_s=1e6, stall_deadline_s=1e6)
    service = assemble(settings, "default", engine, tokenizer)
    request = replace(ASK, max_tokens=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        async with trio.open_nursery() as readers:
            for _ in range(2):
                readers.start_soon(
                    service.generate, request, PlainEncoder(), GatedSink(permits=1000)
                )
            while not engine.entered:
                await trio.lowlevel.checkpoint()
            mock_clock.jump(7)
            engine.permits.release(2)
        nursery.cancel_scope.cancel()
    told = read(service)
    assert told["queue_seconds_count"] == 2
    assert told["queue_seconds_sum"] == pytest.approx(7)
    assert told["time_to_first_token_seconds_sum"] == pytest.approx(14)
