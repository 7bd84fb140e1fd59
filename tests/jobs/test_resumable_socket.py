"""Resumable generations over a WebSocket: another socket goes on where one was lost."""

from __future__ import annotations

import re

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.web.app import App
from tests.asgi import running
from tests.checkpoints import cancel_everywhere
from tests.peers import settled
from tests.web.test_disconnect import count

from .clients import (
    JOB,
    ask,
    blocks,
    data,
    ended,
    fields,
    look,
    make_app,
    make_timed_app,
    read,
    submit,
)
from .socket_peer import SocketPeer, connected


@pytest.fixture
def app(model: Model, tokenizer: Tokenizer) -> App:
    return make_app(model, tokenizer, job_window=4)


async def started(peer: SocketPeer, **changes: object) -> str:
    peer.tell("start", **JOB | changes, resumable=True)
    job_id: str = (await peer.hear("started"))["job_id"]
    return job_id


async def assert_idle(app: App) -> None:
    await settled(app.service.default.decoder)
    names = ("live", "active", "waiting", "jobs_running", "job_readers")
    assert {name: count(app, name) for name in names} == dict.fromkeys(names, 0)


async def test_a_resumable_generation_is_like_any_other(app: App) -> None:
    async with running(app), connected(app) as peer:
        job_id = await started(peer)
        complete = await peer.hear("complete")
        whole = await ask(app, "POST", "/v1/completions", JOB)
    assert peer.heard[0] == {
        "type": "started",
        "job_id": job_id,
        "model": "default",
        "after": 0,
    }
    assert peer.numbers == list(range(1, complete["seq"]))
    text = "".join(message["text"] for message in peer.heard if message["type"] == "token")
    assert text == whole.json["choices"][0]["text"]
    assert complete["usage"] == whole.json["usage"]


async def test_a_lost_socket_is_replaced_by_another(app: App) -> None:
    async with running(app):
        async with connected(app) as first:
            job_id = await started(first, credits=3)
            await settled(app.service.default.decoder)
        await wait_all_tasks_blocked()
        assert first.numbers == [1, 2, 3]
        async with connected(app) as second:
            second.tell("resume", job_id=job_id, after=2)
            complete = await second.hear("complete")
        stream = await read(app, job_id)
        await assert_idle(app)
    assert second.heard[0] == {
        "type": "started",
        "job_id": job_id,
        "model": "default",
        "after": 2,
    }
    assert second.numbers == list(range(3, complete["seq"]))
    told = {m["seq"]: m["text"] for m in first.heard + second.heard if m["type"] == "token"}
    assert list(told.values()) == [data(each)["text"] for each in blocks(stream.body)[:-1]]
    assert str(complete["seq"]) == fields(blocks(stream.body)[-1])["id"]
    assert count(app, "requests_cancelled_total") == 0


async def test_a_submitted_job_can_be_read_on_a_socket_with_credits(app: App) -> None:
    async with running(app), connected(app) as peer:
        job_id = await submit(app)
        await ended(app, job_id)
        peer.tell("resume", job_id=job_id, credits=2)
        await settled(app.service.default.decoder)
        await wait_all_tasks_blocked()
        assert peer.numbers == [1, 2]
        peer.tell("pull", n=1)
        await wait_all_tasks_blocked()
        assert peer.numbers == [1, 2, 3]
        peer.tell("pull", n=99)
        assert (await peer.hear("complete"))["finish_reason"] == "length"


async def test_the_end_is_told_to_one_who_has_seen_everything(app: App) -> None:
    async with running(app), connected(app) as peer:
        job_id = await submit(app)
        last_id = (await ended(app, job_id))["last_event_id"]
        peer.tell("resume", job_id=job_id, after=last_id + 7)
        complete = await peer.hear("complete")
    assert (peer.heard[0]["after"], peer.numbers, complete["seq"]) == (last_id - 1, [], last_id)


@pytest.mark.parametrize("allowed", [0, 3, None])
async def test_cancel_ends_the_job_at_once(app: App, allowed: int | None) -> None:
    async with running(app), connected(app) as peer:
        job_id = await started(peer, credits=allowed, max_tokens=100)
        peer.tell("cancel")
        cancelled = await peer.hear("cancelled")
        told = await look(app, job_id)
        assert (cancelled["job_id"], cancelled["seq"]) == (job_id, told["last_event_id"])
        assert told["status"] == "cancelled"
        assert peer.heard[-1] is cancelled
        await assert_idle(app)
    assert count(app, "requests_cancelled_total", reason="client") == 1
    assert count(app, "requests_cancelled_total") == 1


async def test_one_who_cancels_what_has_ended_need_not_hear_the_rest(app: App) -> None:
    async with running(app), connected(app) as peer:
        job_id = await submit(app)
        await ended(app, job_id)
        peer.tell("resume", job_id=job_id, credits=2)
        await wait_all_tasks_blocked()
        peer.tell("cancel")
        assert (await peer.hear("cancelled"))["job_id"] == job_id
        assert peer.numbers == [1, 2]
        assert (await look(app, job_id))["status"] == "completed"
        await assert_idle(app)
        peer.heard.clear()
        await started(peer)
        await peer.hear("complete")
    assert count(app, "requests_cancelled_total") == 0


async def test_an_unknown_job_is_refused_and_the_socket_stays(app: App) -> None:
    async with running(app), connected(app) as peer:
        peer.tell("resume", job_id="job_x", after=1)
        assert (await peer.hear("error"))["error"]["code"] == "job_not_found"
        peer.heard.clear()
        peer.tell("resume", job_id="job_x", credits=-1)
        assert (await peer.hear("error"))["error"]["param"] == "credits"
        await started(peer)
        await peer.hear("complete")


async def test_a_refused_start_is_an_error_and_the_socket_stays(app: App) -> None:
    async with running(app), connected(app) as peer:
        peer.tell("start", **JOB | {"max_tokens": 9999}, resumable=True)
        assert (await peer.hear("error"))["error"]["code"] == "context_length_exceeded"
        await started(peer)
        await peer.hear("complete")


@pytest.mark.parametrize("again", ["start", "resume"])
async def test_a_second_start_closes_and_cancels(app: App, again: str) -> None:
    async with running(app), connected(app) as peer:
        job_id = await started(peer, credits=0, max_tokens=100)
        peer.tell(again, prompt="x", job_id=job_id)
        told = await ended(app, job_id)
        await wait_all_tasks_blocked()
        assert (peer.code, told["status"]) == (4409, "cancelled")
        await assert_idle(app)


async def test_a_socket_that_nobody_follows_is_cancelled_in_time(
    model: Model, tokenizer: Tokenizer, autojump_clock: MockClock
) -> None:
    app = make_app(model, tokenizer, resume_window_s=20)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.service.jobs.run)  # nobody decodes
        async with connected(app) as peer:
            await started(peer)
        await trio.sleep(19)
        assert count(app, "requests_cancelled_total") == 0
        await trio.sleep(2)
        assert count(app, "requests_cancelled_total", reason="unread") == 1
        nursery.cancel_scope.cancel()


async def test_a_socket_that_is_lost_at_any_point_leaves_nothing_for_long(
    model: Model, tokenizer: Tokenizer, autojump_clock: MockClock
) -> None:
    app = make_timed_app(model, tokenizer, job_window=4)
    names = ("live", "active", "waiting", "jobs_running", "job_readers", "jobs_kept")

    async def scenario() -> None:
        peer = SocketPeer(app)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.run)
            await started(peer, max_tokens=3)
            await peer.hear("complete")
            peer.leave()

    async def check(cut_short: bool) -> None:
        await trio.sleep(100)
        assert {name: count(app, name) for name in names} == dict.fromkeys(names, 0)

    async with running(app):
        assert await cancel_everywhere(scenario, check) > 20


async def test_a_drain_tells_the_end_and_closes(
    model: Model, tokenizer: Tokenizer, autojump_clock: MockClock
) -> None:
    app = make_timed_app(model, tokenizer, job_window=4)
    async with running(app), connected(app) as peer:
        await started(peer, credits=1)
        await trio.sleep(1)
        await app.service.drain(3)
        error = await peer.hear("error")
        await wait_all_tasks_blocked()
        assert (error["error"]["code"], peer.code) == ("unavailable", 1001)


@pytest.mark.parametrize("resumable", [False, True])
async def test_an_answer_has_the_form_that_was_asked_for(app: App, resumable: bool) -> None:
    form = {"guided_regex": "(yes|no), [a-z]{3}", "max_tokens": 40, "resumable": resumable}
    async with running(app), connected(app) as peer:
        peer.tell("start", **JOB | form)
        await peer.hear("complete")
        text = "".join(message.get("text", "") for message in peer.heard)
        job_id = await submit(app, guided_regex="[a-z]{9}", max_tokens=40)
        told = (await ended(app, job_id))["text"]
    assert re.fullmatch("(yes|no), [a-z]{3}", text)
    assert re.fullmatch("[a-z]{9}", told)
