"""GET /chat/stream is a job: an EventSource that comes back goes on where it was."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, running
from tests.peers import settled
from tests.web.test_disconnect import count

from .clients import blocks, data, fields, make_app, make_timed_app

QUERY = "prompt=Tell+me+a+story&max_tokens=12&temperature=0"


@pytest.fixture
def app(model: Model, tokenizer: Tokenizer) -> App:
    return make_app(model, tokenizer, job_window=4, resume_window_s=30)


def source(app: App, after: str = "", *, reads: float = float("inf")) -> MemoryClient:
    headers = ((b"last-event-id", after.encode()),) if after else ()
    return MemoryClient(app, "GET", "/chat/stream", query=QUERY, headers=headers, reads=reads)


async def cut(app: App, *, reads: int) -> MemoryClient:
    """A reader that takes `reads` events and is gone."""
    client = source(app, reads=reads)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        while len(blocks(client.body)) < reads or not app.service.default.decoder.resting:
            await settled(app.service.default.decoder)
        client.leave()
    return client


def last_event_id(client: MemoryClient) -> str:
    return fields(blocks(client.body)[-1])["id"]


async def test_a_cut_stream_goes_on_where_it_was(app: App) -> None:
    async with running(app):
        whole = await fetch(source(app))
        job_id = last_event_id(whole).split(":")[0]
        first = await cut(app, reads=3)
        second = await fetch(source(app, last_event_id(first)))
        name = last_event_id(first).split(":")[0]
        again = await fetch(source(app, last_event_id(second)))
    told = blocks(first.body) + blocks(second.body)
    expected = [each.replace(job_id.encode(), name.encode()) for each in blocks(whole.body)]
    assert told[:-1] == expected[:-1]
    assert data(told[-1]) == data(expected[-1])
    assert fields(told[-1])["event"] == "done"
    assert second.body.count(b"retry: 1000\n") == 1
    assert (again.status, again.body) == (204, b"")
    assert count(app, "requests_started_total") == 2
    assert count(app, "requests_cancelled_total") == 0


@pytest.mark.parametrize(
    "after", ["job_1:9", "x:1", "5", "job_" + "0" * 32 + ":1", "job_1:", "job_1:-1", ":", "\u00e9"]
)
async def test_an_id_that_is_not_known_is_sent_away_politely(app: App, after: str) -> None:
    async with running(app):
        answer = await fetch(source(app, after))
    assert (answer.status, answer.body) == (204, b"")
    assert count(app, "requests_started_total") == 0


async def test_a_stream_that_nobody_comes_back_to_is_forgotten_in_time(
    model: Model, tokenizer: Tokenizer, autojump_clock: MockClock
) -> None:
    app = make_timed_app(model, tokenizer, job_window=4, resume_window_s=30)
    async with running(app):
        first = await cut(app, reads=2)
        left_s = trio.current_time()
        name = last_event_id(first).split(":")[0]
        log = await app.service.jobs.find("", name)
        # Nobody holds it up any more, so that it may well run to its end meanwhile.
        await log.wait_end()
        assert trio.current_time() - left_s <= 30.1
        await trio.sleep(61)
        assert (await fetch(source(app, last_event_id(first)))).status == 204
        await settled(app.service.default.decoder)
    assert count(app, "jobs_kept") == 0


async def test_an_unread_stream_that_cannot_end_is_cancelled_as_unread(
    model: Model, tokenizer: Tokenizer, autojump_clock: MockClock
) -> None:
    """The decoder does not run here."""
    app = make_app(model, tokenizer, resume_window_s=30)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.service.jobs.run)
        with trio.move_on_after(20):
            await source(app).run()
        await trio.sleep(29)
        assert count(app, "requests_cancelled_total") == 0
        await trio.sleep(2)
        assert count(app, "requests_cancelled_total", reason="unread") == 1
        assert app.service.default.admission.taken == 0
        nursery.cancel_scope.cancel()


async def test_a_stall_ends_the_reader_and_not_the_job(
    model: Model, tokenizer: Tokenizer, autojump_clock: MockClock
) -> None:
    app = make_timed_app(model, tokenizer, job_window=4, stall_deadline_s=7)
    async with running(app):
        stalled = source(app, reads=2)
        await stalled.run()
        assert not stalled.ended
        assert trio.current_time() == pytest.approx(7, abs=1)
        rest = await fetch(source(app, last_event_id(stalled)))
    told = blocks(stalled.body) + blocks(rest.body)
    numbers = [int(fields(each)["id"].split(":")[1]) for each in told]
    assert numbers == list(range(1, len(told) + 1))
    assert count(app, "requests_failed_total") == 0
    assert count(app, "requests_finished_total", reason="length") == 1


async def test_a_failure_is_an_event_named_done(
    model: Model, tokenizer: Tokenizer, autojump_clock: MockClock
) -> None:
    app = make_app(model, tokenizer)
    client = source(app)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.service.jobs.run)
        nursery.start_soon(client.run)
        await trio.sleep(1)
        await app.service.drain(0)
        nursery.cancel_scope.cancel()
    (done,) = blocks(client.body)
    assert (client.status, fields(done)["event"]) == (200, "done")
    assert data(done)["error"]["code"] == "unavailable"


async def test_what_cannot_be_done_is_a_status(app: App) -> None:
    async with running(app):
        bad = await fetch(MemoryClient(app, "GET", "/chat/stream", query="prompt="))
        long = await fetch(
            MemoryClient(app, "GET", "/chat/stream", query="prompt=x&max_tokens=999")
        )
    assert (bad.status, long.status) == (400, 400)
    assert count(app, "jobs_kept") == 0
