"""The metrics page: what is on it, that Prometheus takes it, that nothing stays behind."""

from __future__ import annotations

import json
import shutil
from random import Random
from typing import cast

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

from penstock.build import assemble, build_service
from penstock.engine.engine import Engine
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.metrics import Metrics
from penstock.settings import Settings
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, running
from tests.inline import InlineThread
from tests.jobs.socket_peer import SocketPeer
from tests.peers import make_engine
from tests.simulation.scripted import Script, ScriptedEngine


def samples(app: App, kind: str) -> dict[str, float]:
    """What metrics of one type say, without those of single buckets."""
    return {
        sample.name.removeprefix("penstock_") + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(app.service.metrics.render().decode())
        if family.type == kind
        for sample in family.samples
        if "le" not in sample.labels
    }


def test_an_edge_without_models_has_every_series() -> None:
    def series(settings: Settings) -> list[str]:
        page = build_service(settings).metrics.render().decode()
        return [line for line in page.splitlines() if line.startswith("# TYPE")]

    assert series(Settings(role="edge", store="redis://127.0.0.1:1/0")) == series(Settings())


def test_every_series_is_there_from_the_start_and_labels_are_few() -> None:
    page = Metrics().render().decode()
    for line in (
        'penstock_requests_finished_total{reason="length"} 0.0',
        'penstock_requests_failed_total{reason="stalled"} 0.0',
        'penstock_requests_cancelled_total{reason="disconnect"} 0.0',
        'penstock_requests_refused_total{code="overloaded"} 0.0',
    ):
        assert f"{line}\n" in page
    assert page.count("{") < 150
    told = {line.split("{")[0] for line in page.splitlines() if "cancel" in line and line[0] != "#"}
    assert told == {"penstock_requests_cancelled_total"}


def test_sizes_are_a_histogram() -> None:
    metrics = Metrics()
    metrics.watch_sizes("batch_size", "Rows.", lambda: [0, 5, 0, 2])
    page = metrics.render().decode()
    for line in ('bucket{le="1.0"} 5', 'bucket{le="2.0"} 5', 'bucket{le="4.0"} 7'):
        assert f"penstock_batch_size_{line}.0\n" in page
    assert 'bucket{le="+Inf"} 7.0\n' in page
    assert "penstock_batch_size_count 7.0\n" in page
    assert "penstock_batch_size_sum 11.0\n" in page


def test_sizes_of_nothing_are_an_empty_histogram() -> None:
    """An edge decodes nothing."""
    metrics = Metrics()
    metrics.watch_sizes("batch_size", "Rows.", list)
    page = metrics.render().decode()
    assert 'penstock_batch_size_bucket{le="+Inf"} 0.0' in page


async def test_a_page_with_traffic_on_it_is_what_prometheus_reads(
    model: Model, tokenizer: Tokenizer
) -> None:
    app = App(assemble(Settings(slots=2), "default", make_engine(model, slots=2), tokenizer))
    async with running(app):
        for body in ({"prompt": "Once", "max_tokens": 4, "n": 2}, {}, {"prompt": "", "n": 1}):
            await fetch(
                MemoryClient(app, "POST", "/v1/completions", body=json.dumps(body).encode())
            )
        page = (await fetch(MemoryClient(app, "GET", "/metrics"))).body
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed (Debian has it in the package prometheus)")
    done = await trio.run_process(
        [promtool, "check", "metrics"],
        stdin=page,
        check=False,
        capture_stdout=True,
        capture_stderr=True,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


ASK = {"prompt": "Once upon a time", "max_tokens": 5}


class Crowd:
    """Clients of every kind, `at_once` of them at a time."""

    def __init__(self, app: App, requests: int, at_once: int) -> None:
        self._app = app
        self._random = Random(5)
        self._left = requests
        self._at_once = at_once

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(self._at_once):
                nursery.start_soon(self._ask_on)

    async def _ask_on(self) -> None:
        kinds = (self._whole, self._stream, self._leave, self._refused, self._job, self._socket)
        while self._left > 0:
            self._left -= 1
            await self._random.choice(kinds)()

    def _client(self, **fields: object) -> MemoryClient:
        body = json.dumps(ASK | fields).encode()
        return MemoryClient(self._app, "POST", "/v1/completions", body=body)

    async def _whole(self) -> None:
        await fetch(self._client())

    async def _stream(self) -> None:
        await fetch(self._client(stream=True))

    async def _refused(self) -> None:
        await fetch(self._client(model="nobody"))

    async def _leave(self) -> None:
        client = self._client(stream=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            await trio.sleep(self._random.uniform(0, 0.1))
            client.leave()

    async def _job(self) -> None:
        client = MemoryClient(self._app, "POST", "/v1/jobs", body=json.dumps(ASK).encode())
        if (await fetch(client)).status == 429:
            return
        job_id = client.json["job_id"]
        if self._random.random() < 0.5:
            await fetch(MemoryClient(self._app, "GET", "/v1/stream", query=f"job_id={job_id}"))
        await fetch(MemoryClient(self._app, "DELETE", f"/v1/jobs/{job_id}"))

    async def _socket(self) -> None:
        peer = SocketPeer(self._app)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.run)
            peer.tell("start", **ASK)
            await trio.sleep(self._random.uniform(0, 0.1))
            peer.tell("cancel")
            peer.leave()


@pytest.mark.heavy
async def test_ten_thousand_requests_leave_every_gauge_as_it_was(
    tokenizer: Tokenizer, autojump_clock: MockClock
) -> None:
    requests = 10_000
    engine = cast("Engine", ScriptedEngine(Script(tokenizer), 8, Random(1), faults=0.002))
    service = assemble(Settings(slots=8, queue=32), "default", engine, tokenizer)
    service.default.decoder.thread = service._thread = InlineThread()
    app = App(service)
    async with running(app):
        before = samples(app, "gauge")
        await Crowd(app, requests, at_once=64).run()
        await trio.testing.wait_all_tasks_blocked()
        assert samples(app, "gauge") == before
    told = samples(app, "counter")
    assert {name: value for name, value in before.items() if value} == {
        "slots": 8,
        "kv_capacity_tokens": 8 * engine.max_len,
    }
    ended = sum(
        told[name]
        for name in told
        if name.startswith(("requests_finished", "requests_failed", "requests_cancelled"))
    )
    refused = sum(value for name, value in told.items() if name.startswith("requests_refused"))
    assert told["requests_started_total"] == ended
    # A client that left before its request was read is neither.
    assert requests * 0.98 < ended + refused <= requests
    histograms = samples(app, "histogram")
    assert histograms["generation_seconds_count"] == ended
    assert histograms["batch_size_sum"] == told["decode_rows_total"] > 0
