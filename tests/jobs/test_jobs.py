"""Jobs: one for a key, several readers of one, and every bound there is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count as count_from

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from penstock.engine.model import Model
from penstock.engine.sequence import EngineSequence, Result
from penstock.engine.tokenizer import Tokenizer
from penstock.events import Finished, Usage
from penstock.requests import GenerateRequest
from penstock.web.app import App
from tests.asgi import MemoryClient, running
from tests.checkpoints import cancel_everywhere
from tests.peers import GatedEngine, settled
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
    reader,
    submit,
)


@pytest.fixture
def app(model: Model, tokenizer: Tokenizer) -> App:
    return make_app(model, tokenizer)


def gated(model: Model, tokenizer: Tokenizer, **settings: object) -> tuple[App, GatedEngine]:
    engine = GatedEngine(model, slots=4)
    return make_app(model, tokenizer, engine=engine, **settings), engine


def permit(engine: GatedEngine, turns: int) -> None:
    for _ in range(turns):
        engine.permits.release()


def gauges(app: App) -> dict[str, float]:
    names = ("live", "active", "waiting", "evicted", "jobs_running", "job_readers")
    return {name: count(app, name) for name in names}


async def assert_idle(app: App) -> None:
    await settled(app.service.default.decoder)
    assert not any(gauges(app).values()), gauges(app)


async def last_id(app: App, job_id: str) -> int:
    await settled(app.service.default.decoder)
    told: int = (await look(app, job_id))["last_event_id"]
    return told


# One for a key


async def test_a_hundred_submits_with_one_key_make_one_job(app: App) -> None:
    answers: list[MemoryClient] = []

    async def once(body: dict[str, object]) -> None:
        answers.append(await ask(app, "POST", "/v1/jobs", body, idempotency_key="same"))

    turned = dict(reversed(JOB.items()))
    async with running(app):
        async with trio.open_nursery() as nursery:
            for body in [JOB, turned] * 50:
                nursery.start_soon(once, body)
        assert len({answer.json["job_id"] for answer in answers}) == 1
        assert sorted(answer.status for answer in answers) == [200] * 99 + [202]
        replayed = [answer.headers.get(b"idempotency-replayed") for answer in answers]
        assert sorted(replayed, key=str) == [None, *[b"true"] * 99]
        await ended(app, answers[0].json["job_id"])
    assert count(app, "requests_started_total") == count(app, "jobs_total") == 1
    assert count(app, "jobs_replayed_total") == 99


async def test_a_key_with_another_body_is_422(app: App) -> None:
    async with running(app):
        await ask(app, "POST", "/v1/jobs", JOB, idempotency_key="k")
        answer = await ask(app, "POST", "/v1/jobs", JOB | {"seed": 1}, idempotency_key="k")
        other = await ask(app, "POST", "/v1/jobs", JOB | {"seed": 1}, idempotency_key="other")
    assert (answer.status, answer.json["error"]["code"]) == (422, "idempotency_key_reused")
    assert other.status == 202


async def test_submits_without_a_key_are_jobs_of_their_own(app: App) -> None:
    async with running(app):
        assert len({await submit(app, max_tokens=1) for _ in range(3)}) == 3


async def test_a_submitter_that_leaves_before_its_turn_leaves_no_lock(app: App) -> None:
    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(
                    partial(
                        ask, app, "POST", "/v1/jobs", JOB | {"max_tokens": 1}, idempotency_key="k"
                    )
                )

    async def check(cut_short: bool) -> None:
        assert app.service.jobs._locks == {}

    async with running(app):
        assert await cancel_everywhere(scenario, check) > 10
        assert count(app, "jobs_total") == 1


async def test_who_leaves_while_an_answer_is_being_kept_leaves_nothing_that_runs(app: App) -> None:
    jobs, numbers = app.service.jobs, count_from(1)
    order = jobs.attended(GenerateRequest(prompt="a"), app.service.default.name)
    async with running(app):

        async def scenario() -> None:
            end = Finished("stop", Usage(1, 1), 1)
            await jobs.keep(f"job_{next(numbers)}", order, "x", end)

        async def check(cut_short: bool) -> None:
            assert jobs.store.held().running == 0
            await wait_all_tasks_blocked()

        await wait_all_tasks_blocked()
        assert await cancel_everywhere(scenario, check) > 1


# Readers


async def test_ten_readers_of_which_one_has_stopped_are_all_but_one_done(app: App) -> None:
    async with running(app), trio.open_nursery() as nursery:
        job_id = await submit(app, max_tokens=40)
        stopped = reader(app, job_id, reads=3)
        others = [reader(app, job_id) for _ in range(9)]
        for each in (stopped, *others):
            nursery.start_soon(each.run)
        await ended(app, job_id)
        await settled(app.service.default.decoder)
        assert all(each.ended for each in others)
        assert len({each.body for each in others}) == 1
        assert (stopped.ended, len(blocks(stopped.body))) == (False, 3)
        assert count(app, "job_readers") == 1
        stopped.read(100)
        await wait_all_tasks_blocked()
        assert stopped.body == others[0].body
    await assert_idle(app)


async def test_a_job_that_is_read_slowly_waits_for_the_furthest_reader(
    model: Model, tokenizer: Tokenizer
) -> None:
    """Beside the window, one event is in the reader's hand and one in its writer's."""
    app, engine = gated(model, tokenizer, job_window=8)
    async with running(app), trio.open_nursery() as nursery:
        job_id = await submit(app, max_tokens=60)
        slow, slower = reader(app, job_id, reads=3), reader(app, job_id, reads=1)
        nursery.start_soon(slow.run)
        nursery.start_soon(slower.run)
        await wait_all_tasks_blocked()
        permit(engine, 200)
        assert await last_id(app, job_id) == 3 + 1 + 8
        slower.read(5)
        assert await last_id(app, job_id) == 6 + 1 + 8
        slow.leave()
        slower.leave()
        assert (await ended(app, job_id))["status"] == "completed"
    await assert_idle(app)


async def test_a_window_is_never_exceeded_and_an_acknowledgement_lets_it_on(app: App) -> None:
    async with running(app), trio.open_nursery() as nursery:
        job_id = await submit(app, max_tokens=20, window=4)
        stream = reader(app, job_id)
        nursery.start_soon(stream.run)
        for acknowledged in (0, 1, 4, 7, 7, 9, 13):
            await ask(app, "POST", f"/v1/jobs/{job_id}/ack", {"id": acknowledged})
            assert await last_id(app, job_id) == acknowledged + 4
        while (told := await look(app, job_id))["status"] == "running":
            assert told["last_event_id"] - told["acknowledged"] <= 4
            await ask(app, "POST", f"/v1/jobs/{job_id}/ack", {"id": told["last_event_id"]})
            await settled(app.service.default.decoder)
        await wait_all_tasks_blocked()
    assert told["status"] == "completed"
    assert stream.ended
    await assert_idle(app)


async def test_the_end_of_a_job_waits_for_its_window_too(app: App) -> None:
    async with running(app):
        job_id = await submit(app, max_tokens=4, window=4)
        assert await last_id(app, job_id) == 4
        assert (await look(app, job_id))["status"] == "running"
        assert count(app, "active") == 0
        await ask(app, "POST", f"/v1/jobs/{job_id}/ack", {"id": 1})
        assert (await ended(app, job_id))["status"] == "completed"


async def test_what_was_computed_but_never_fit_its_window_can_still_be_cancelled(app: App) -> None:
    async with running(app):
        job_id = await submit(app, max_tokens=4, window=4)
        assert await last_id(app, job_id) == 4
        told = (await ask(app, "POST", f"/v1/jobs/{job_id}/cancel")).json
    assert (told["status"], told["last_event_id"]) == ("cancelled", 5)
    assert count(app, "requests_cancelled_total", reason="client") == 1
    assert count(app, "requests_finished_total") == 0


async def test_a_reader_that_leaves_at_any_point_leaves_nothing(app: App) -> None:
    async with running(app):
        job_id = await submit(app)
        whole = (await read(app, job_id)).body

        async def scenario() -> None:
            await reader(app, job_id).run()

        async def check(cut_short: bool) -> None:
            assert count(app, "job_readers") == 0

        assert await cancel_everywhere(scenario, check) > 10
        assert (await read(app, job_id)).body == whole
        await assert_idle(app)


# Ends


async def test_a_job_that_takes_too_long_is_ended_by_name(
    model: Model, tokenizer: Tokenizer, autojump_clock: MockClock
) -> None:
    app = make_timed_app(model, tokenizer, job_wall_s=20)
    async with running(app):
        job_id = await submit(app, max_tokens=9, window=3)
        stream = await read(app, job_id)
        told = await look(app, job_id)
        assert trio.current_time() == pytest.approx(20, abs=1)
    assert (told["status"], told["error"]["code"]) == ("failed", "deadline_exceeded")
    last = blocks(stream.body)[-1]
    assert (fields(last)["event"], fields(last)["id"]) == ("job_error", "4")
    assert data(last)["error"]["code"] == "deadline_exceeded"
    assert count(app, "requests_failed_total", reason="deadline") == 1


async def test_an_ended_job_is_kept_for_its_time(
    model: Model, tokenizer: Tokenizer, autojump_clock: MockClock
) -> None:
    app = make_timed_app(model, tokenizer, job_keep_s=100)
    async with running(app):
        job_id = await submit(app, max_tokens=2)
        await ended(app, job_id)
        await trio.sleep(99)
        assert (await read(app, job_id)).status == 200
        await trio.sleep(101)
        assert (await read(app, job_id)).status == 404
    assert count(app, "jobs_expired_total") == 1
    assert count(app, "jobs_kept") == count(app, "job_log_bytes") == 0


async def test_too_many_jobs_are_refused_before_they_cost_anything(
    model: Model, tokenizer: Tokenizer
) -> None:
    app = make_app(model, tokenizer, max_jobs=2)
    async with running(app):
        for _ in range(2):
            await ended(app, await submit(app, max_tokens=1))
        answer = await ask(app, "POST", "/v1/jobs", JOB)
        assert (answer.status, answer.json["error"]["code"]) == (429, "overloaded")
        assert answer.headers[b"retry-after"] == b"60"
        await assert_idle(app)
    assert count(app, "requests_started_total") == 2


async def test_a_log_is_reserved_when_its_job_is_admitted(
    model: Model, tokenizer: Tokenizer
) -> None:
    app = make_app(model, tokenizer, job_log_bytes=1 << 20)
    async with running(app):
        await submit(app, max_tokens=100)
        assert count(app, "job_log_bytes") == 101 * 512 + 4 * len(str(JOB["prompt"]))


async def test_a_failing_model_is_told_to_every_reader_and_counted_once(
    model: Model, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, engine = gated(model, tokenizer)
    async with running(app):
        job_id = await submit(app)
        permit(engine, 100)

        def broken(sequences: Sequence[EngineSequence]) -> list[Result]:
            raise RuntimeError("planted")

        monkeypatch.setattr(engine, "step", broken)
        answers = [await read(app, job_id) for _ in range(2)]
    assert answers[0].body == answers[1].body
    last = blocks(answers[0].body)[-1]
    assert (answers[0].status, fields(last)["event"]) == (200, "job_error")
    assert data(last)["error"]["code"] == "internal_error"
    assert count(app, "requests_failed_total", reason="failed") == 1


async def test_a_job_whose_task_fails_is_told_to_its_readers(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: float = 1) -> None:
        raise OSError("planted")

    monkeypatch.setattr(app.service.metrics.started, "inc", broken)
    async with running(app):
        job_id = await submit(app)
        with trio.fail_after(5):
            answer = await read(app, job_id)
    last = blocks(answer.body)[-1]
    assert (fields(last)["event"], data(last)["error"]["code"]) == ("job_error", "internal_error")


async def test_a_drain_ends_jobs_with_a_terminal_that_readers_get(
    model: Model, tokenizer: Tokenizer
) -> None:
    app, engine = gated(model, tokenizer)
    async with running(app), trio.open_nursery() as nursery:
        job_id, unread = await submit(app), await submit(app)
        stream = reader(app, job_id)
        nursery.start_soon(stream.run)
        permit(engine, 6)
        await (await app.service.jobs.find("", job_id)).read(1, 1)
        await app.service.drain(0)
        permit(engine, 6)
        assert stream.ended
        last = blocks(stream.body)[-1]
        assert (fields(last)["event"], data(last)["error"]["code"]) == ("job_error", "unavailable")
        assert (await look(app, unread))["error"]["code"] == "unavailable"
        assert (await ask(app, "POST", "/v1/jobs", JOB)).status == 429
        await assert_idle(app)
    assert count(app, "requests_failed_total", reason="shutdown") == 2


async def test_a_drain_waits_for_a_job_and_for_those_who_read_it(
    model: Model, tokenizer: Tokenizer
) -> None:
    app, engine = gated(model, tokenizer)
    async with running(app), trio.open_nursery() as nursery:
        job_id = await submit(app, max_tokens=5)
        stream = reader(app, job_id, reads=2)
        nursery.start_soon(stream.run)
        nursery.start_soon(app.service.drain, 60)
        permit(engine, 50)
        await ended(app, job_id)
        await wait_all_tasks_blocked()
        assert len(blocks(stream.body)) == 2
        stream.read(99)
    assert stream.ended
    assert fields(blocks(stream.body)[-1])["event"] == "job_complete"


async def test_a_service_that_ends_ends_its_jobs(model: Model, tokenizer: Tokenizer) -> None:
    app, engine = gated(model, tokenizer)
    async with running(app):
        await submit(app)
        permit(engine, 100)
    assert gauges(app)["live"] == 0
    answer = await ask(app, "POST", "/v1/jobs", JOB)
    assert (answer.status, answer.json["error"]["code"]) == (429, "unavailable")
