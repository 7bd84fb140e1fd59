"""What another release has written, or an operator has taken away: it hides nothing but itself."""

from __future__ import annotations

import json
import logging

import pytest
import trio
from glide import Script

from penstock.build import make_edge
from penstock.errors import PenstockError
from penstock.events import Failed
from penstock.jobs.redis.store import RedisStore
from penstock.settings import Settings
from penstock.web.app import App
from tests.asgi import MemoryClient, fetch, running
from tests.redis_server import RedisServer

from .stores import DONE, delta, job, quiet

PATIENCE_S = 5
JOB = "{penstock}:job:"
# As another release would have written it.
ORDER = "return redis.call('HSET', KEYS[1] .. 'job:job_b', 'order', '\\129\\161x\\1')"


async def names(store: RedisStore) -> list[str]:
    return [log.job.job_id for log in await store.listed("", 9)]


async def test_an_order_that_cannot_be_read_hides_no_others(
    store: RedisStore, other: RedisStore, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "abc":
        await store.create(job(name, key=name))
    await store.link.call(Script(ORDER))  # type: ignore[no-untyped-call]
    assert await names(other) == ["job_c", "job_a"]
    told = [each.message for each in caplog.records if each.levelno == logging.ERROR]
    assert told == ["a job of another release"]
    for ask in (other.find("job_b"), other.find_key("", "b"), other.create(job("d", key="b"))):
        with pytest.raises(PenstockError, match="another release"):
            await ask


@pytest.mark.parametrize("end", ["?\x01", "F\x01"], ids=["tag", "record"])
async def test_an_end_that_cannot_be_read_is_a_failure_and_hides_no_others(
    redis: RedisServer, store: RedisStore, other: RedisStore, end: str
) -> None:
    for name in "ab":
        await store.create(job(name))
    waiting = await other.find("job_a")
    assert waiting is not None
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.wait_end)
            await quiet(other)
            redis.ask("HSET", f"{JOB}job_a", "terminal", end)
            other._watch.resume()
        terminal = (await waiting.state()).terminal
        assert isinstance(terminal, Failed)
        assert "another release" in terminal.error.message
        assert await names(store) == ["job_b", "job_a"]
        # What tells the others of readers is still there.
        log = await other.find("job_b")
        assert log is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.wait_end)
            await quiet(other)
            written = await store.find("job_b")
            assert written is not None
            await written.append(await written.claim(), DONE)


async def test_a_refusal_that_cannot_be_read_is_one(
    redis: RedisServer, store: RedisStore, other: RedisStore
) -> None:
    log = await store.create(job())
    await log.append(await log.claim(), delta(1))
    redis.ask("HSET", f"{JOB}job_a", "refusal", "?\x01")
    with trio.fail_after(PATIENCE_S):
        assert "another release" in (await log.refused()).message
        seen = await other.find("job_a")
        assert seen is not None
        assert "another release" in (await seen.refused()).message


async def test_a_job_that_was_taken_away_hides_no_others_and_frees_its_key(
    redis: RedisServer, store: RedisStore, other: RedisStore
) -> None:
    for name in "abc":
        await store.create(job(name, key=name))
    redis.ask("DEL", f"{JOB}job_b")
    assert await names(other) == ["job_c", "job_a"]
    assert await other.find_key("", "b") is None
    redis.ask("HSET", "{penstock}:keys:", "c", "job_x")
    assert (await other.create(job("d", key="c"))).job.job_id == "job_d"


async def test_a_list_is_one_look_so_that_none_can_be_forgotten_meanwhile(
    redis: RedisServer,
) -> None:
    edge = make_edge(Settings(role="edge", store=redis.url), {})
    async with running(App(edge)) as app:
        store = edge.jobs.store
        assert isinstance(store, RedisStore)
        await store.link.there.wait()
        for number in range(40):
            log = await store.create(job(str(number)))
            await log.append(await log.claim(), delta(1))
        before = _asked(redis)
        answer = await fetch(MemoryClient(app, "GET", "/v1/jobs"))
        # What it says of itself meanwhile is asked as well.
        assert _asked(redis) - before < 20
    data = json.loads(answer.body)["data"]
    assert [each["last_event_id"] for each in data] == [1] * 40


def _asked(redis: RedisServer) -> int:
    """Scripts that were run."""
    told = redis.ask("INFO", "commandstats").decode()
    return int(told.split("cmdstat_evalsha:calls=")[1].split(",")[0])
