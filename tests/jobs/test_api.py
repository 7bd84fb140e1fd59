"""The job API over HTTP: submit, look, read, cancel, acknowledge, delete."""

from __future__ import annotations

import json
import re

import pytest
import trio

from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.web.app import App
from tests.asgi import running
from tests.peers import GatedEngine, settled
from tests.web.test_disconnect import count

from .clients import JOB, ask, blocks, data, ended, fields, look, make_app, read, reader, submit


@pytest.fixture
def app(model: Model, tokenizer: Tokenizer) -> App:
    return make_app(model, tokenizer)


def error(answer: object) -> tuple[int, str, str | None]:
    told = answer.json["error"]  # type: ignore[attr-defined]
    return answer.status, told["code"], told["param"]  # type: ignore[attr-defined]


async def test_a_submit_is_accepted_with_an_address_to_read_it(app: App) -> None:
    async with running(app):
        answer = await ask(app, "POST", "/v1/jobs", JOB)
    job_id = answer.json["job_id"]
    assert answer.status == 202
    assert re.fullmatch("job_[0-9a-f]{32}", job_id)
    assert answer.json == {
        "job_id": job_id,
        "stream_url": f"/v1/stream?job_id={job_id}",
        "status": "queued",
    }


async def test_a_stream_is_numbered_and_ends_with_its_figures(app: App) -> None:
    async with running(app):
        job_id = await submit(app, max_tokens=3)
        stream = await read(app, job_id)
        told = await look(app, job_id)
    *tokens, last = blocks(stream.body)
    pieces = [data(token)["text"] for token in tokens]
    assert stream.body.startswith(
        f'event: token\nid: 1\nretry: 1000\ndata: {{"job_id":"{job_id}","index":0,'
        f'"text":{json.dumps(pieces[0])}}}\n\nevent: token\nid: 2\n'
        f'data: {{"job_id":"{job_id}","index":1,"text":{json.dumps(pieces[1])}}}\n\n'.encode()
    )
    assert last.startswith(
        f'event: job_complete\nid: {len(tokens) + 1}\ndata: {{"job_id":"{job_id}",'
        '"finish_reason":"length","usage":{"prompt_tokens":5,"completion_tokens":3,'
        '"total_tokens":8},"figures":{"queue_s":'.encode()
    )
    figures = data(last)["figures"]
    assert figures["tokens"] == 3
    assert 0 <= figures["queue_s"] <= figures["ttft_s"]
    assert figures["tokens_per_s"] > 0
    assert stream.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert stream.headers[b"cache-control"] == b"no-cache, no-transform"
    assert b"content-length" not in stream.headers
    assert told == {
        "job_id": job_id,
        "status": "completed",
        "last_event_id": len(tokens) + 1,
        "acknowledged": 0,
        "text": "".join(pieces),
        "finish_reason": "length",
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
        "error": None,
        "figures": figures,
    }


async def test_the_text_is_that_of_a_completion(app: App) -> None:
    async with running(app):
        whole = await ask(app, "POST", "/v1/completions", JOB)
        job_id = await submit(app)
        assert (await ended(app, job_id))["text"] == whole.json["choices"][0]["text"]
        chat = {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0, "max_tokens": 9}
        answer = await ask(app, "POST", "/v1/chat/completions", chat)
        made = (await ask(app, "POST", "/v1/jobs", chat)).json["job_id"]
        text = (await ended(app, made))["text"]
    assert text == answer.json["choices"][0]["message"]["content"]


async def test_a_replay_is_the_same_from_every_number_on(app: App) -> None:
    async with running(app):
        job_id = await submit(app)
        whole = blocks((await read(app, job_id)).body)
        for after in range(len(whole)):
            again = await read(app, job_id, after=after)
            assert blocks(again.body) == whole[after:]
            assert again.body.count(b"retry: 1000\n") == 1
            assert b"retry: 1000\n" in again.body.split(b"\n\n")[0] + b"\n"
            by_query = await ask(app, "GET", f"/v1/stream?job_id={job_id}&last_event_id={after}")
            assert by_query.body == again.body
        for after in (len(whole), len(whole) + 5):
            answer = await read(app, job_id, after=after)
            assert (answer.status, answer.body) == (204, b"")


async def test_the_header_wins_over_the_query(app: App) -> None:
    async with running(app):
        job_id = await submit(app)
        whole = await read(app, job_id)
        path = f"/v1/stream?job_id={job_id}&last_event_id=4"
        assert (await ask(app, "GET", path, last_event_id="0")).body == whole.body
        assert len(blocks((await ask(app, "GET", path, last_event_id="")).body)) == 9


@pytest.mark.parametrize("position", ["-1", "x", "1.5", "+1", "٣", "1" * 19, " 1", "1e3"])
async def test_a_position_that_is_no_number_is_refused(app: App, position: str) -> None:
    async with running(app):
        job_id = await submit(app)
        for answer in (
            await ask(app, "GET", f"/v1/stream?job_id={job_id}", last_event_id=position),
            await ask(app, "GET", f"/v1/stream?job_id={job_id}&last_event_id={position}x"),
        ):
            assert error(answer) == (400, "invalid_value", "last_event_id")


async def test_a_reader_that_is_ahead_waits_for_the_job(model: Model, tokenizer: Tokenizer) -> None:
    engine = GatedEngine(model)
    app = make_app(model, tokenizer, engine=engine)
    async with running(app), trio.open_nursery() as nursery:
        job_id = await submit(app, max_tokens=6)
        ahead, beyond = reader(app, job_id, after=4), reader(app, job_id, after=40)
        nursery.start_soon(ahead.run)
        nursery.start_soon(beyond.run)
        for _ in range(8):
            engine.permits.release()
        whole = await read(app, job_id)
        await ended(app, job_id)
        await settled(app.service.default.decoder)
    assert blocks(ahead.body) == blocks(whole.body)[4:]
    assert (beyond.status, beyond.body) == (204, b"")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/jobs/job_x"),
        ("POST", "/v1/jobs/job_x/cancel"),
        ("POST", "/v1/jobs/job_x/ack"),
        ("DELETE", "/v1/jobs/job_x"),
        ("GET", "/v1/stream?job_id=job_x"),
    ],
)
async def test_an_unknown_job_is_404_everywhere(app: App, method: str, path: str) -> None:
    async with running(app):
        answer = await ask(app, method, path, {"id": 1})
    assert error(answer) == (404, "job_not_found", None)


async def test_a_stream_needs_a_job(app: App) -> None:
    async with running(app):
        assert error(await ask(app, "GET", "/v1/stream")) == (400, "invalid_value", "job_id")
        assert (await ask(app, "POST", "/v1/stream")).status == 405
        assert (await ask(app, "HEAD", "/v1/stream")).status == 405


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{", 400, "invalid_json", None),
        ({}, 400, "invalid_value", "prompt"),
        ({"prompt": ""}, 400, "invalid_value", "prompt"),
        ({"prompt": "x", "messages": []}, 400, "invalid_value", "messages"),
        ({"prompt": "x", "n": 2}, 400, "unsupported_parameter", "n"),
        ({"prompt": "x", "window": 0}, 400, "invalid_value", "window"),
        ({"prompt": "x", "window": "4"}, 400, "invalid_value", "window"),
        ({"prompt": "x", "logprobs": 1}, 400, "unsupported_parameter", "logprobs"),
        ({"prompt": "x", "suffix": "y"}, 400, "unsupported_parameter", "suffix"),
        ({"prompt": "x", "max_tokens": 0}, 400, "invalid_value", "max_tokens"),
        (
            {"prompt": "x", "max_completion_tokens": 0},
            400,
            "invalid_value",
            "max_completion_tokens",
        ),
        ({"prompt": "x", "max_tokens": 9999}, 400, "context_length_exceeded", "max_tokens"),
        ({"prompt": "x", "model": "gpt-5"}, 404, "model_not_found", "model"),
    ],
)
async def test_a_bad_submit_is_refused_and_leaves_nothing(
    app: App, body: object, status: int, code: str, param: str | None
) -> None:
    async with running(app):
        assert error(await ask(app, "POST", "/v1/jobs", body, idempotency_key="k")) == (
            status,
            code,
            param,
        )
        assert (await ask(app, "GET", "/v1/jobs")).json == {"object": "list", "data": []}
        assert app.service.default.admission.taken == 0
        answer = await ask(app, "POST", "/v1/jobs", JOB, idempotency_key="k")
        assert answer.status == 202
    assert count(app, "jobs_total") == 1


async def test_a_body_over_the_limit_is_413(model: Model, tokenizer: Tokenizer) -> None:
    app = make_app(model, tokenizer, max_body_bytes=2000)
    async with running(app):
        answer = await ask(app, "POST", "/v1/jobs", {"prompt": "x" * 3000})
    assert error(answer) == (413, "request_too_large", None)


async def test_a_full_server_refuses_with_retry_after(model: Model, tokenizer: Tokenizer) -> None:
    engine = GatedEngine(model, slots=1)
    app = make_app(model, tokenizer, engine=engine, slots=1, queue=0)
    async with running(app):
        await submit(app)
        answer = await ask(app, "POST", "/v1/jobs", JOB)
        assert error(answer) == (429, "overloaded", None)
        assert 1 <= int(answer.headers[b"retry-after"]) <= 60
        assert count(app, "requests_refused_total", code="overloaded") == 1
        for _ in range(20):
            engine.permits.release()


async def test_the_list_has_the_newest_first_and_its_own_only(app: App) -> None:
    async with running(app):
        made = [await submit(app, max_tokens=2) for _ in range(3)]
        await ask(app, "GET", "/chat/stream?prompt=Hi&max_tokens=2")
        told = (await ask(app, "GET", "/v1/jobs")).json
        assert [job["job_id"] for job in told["data"]] == made[::-1]
        assert "text" not in told["data"][0]
        two = (await ask(app, "GET", "/v1/jobs?limit=2")).json
        assert [job["job_id"] for job in two["data"]] == made[:0:-1]
        for bad in ("0", "x", "1001", "-1", "99999"):
            assert error(await ask(app, "GET", f"/v1/jobs?limit={bad}"))[2] == "limit"


async def test_cancel_is_told_once_and_counted_once(model: Model, tokenizer: Tokenizer) -> None:
    engine = GatedEngine(model)
    app = make_app(model, tokenizer, engine=engine)
    async with running(app), trio.open_nursery() as nursery:
        job_id = await submit(app)
        stream = reader(app, job_id)
        nursery.start_soon(stream.run)
        for _ in range(4):
            engine.permits.release()
        await (await app.service.jobs.find("", job_id)).read(1, 1)
        answers = [await ask(app, "POST", f"/v1/jobs/{job_id}/cancel") for _ in range(2)]
        engine.permits.release()
        await settled(app.service.default.decoder)
    assert answers[0].json == answers[1].json
    assert (answers[0].status, answers[0].json["status"]) == (200, "cancelled")
    assert answers[0].json["error"]["code"] == "cancelled"
    last = blocks(stream.body)[-1]
    assert fields(last)["event"] == "job_cancelled"
    assert data(last)["reason"] == "client"
    assert (stream.status, stream.ended) == (200, True)
    assert count(app, "requests_cancelled_total", reason="client") == 1
    assert count(app, "requests_cancelled_total") == 1
    assert (app.service.default.admission.taken, app.service.default.decoder.schedule.free) == (
        0,
        4,
    )


async def test_a_job_cancelled_in_the_queue_never_had_a_slot(
    model: Model, tokenizer: Tokenizer
) -> None:
    engine = GatedEngine(model, slots=1)
    app = make_app(model, tokenizer, engine=engine, slots=1)
    async with running(app):
        await submit(app)
        queued = await submit(app)
        told = (await ask(app, "POST", f"/v1/jobs/{queued}/cancel")).json
        stream = await read(app, queued)
        for _ in range(20):
            engine.permits.release()
    assert told["status"] == "cancelled"
    assert data(blocks(stream.body)[0]) == {
        "job_id": queued,
        "reason": "client",
        "figures": {"queue_s": None, "ttft_s": None, "tokens": 0, "tokens_per_s": None},
    }


async def test_cancelling_what_has_ended_changes_nothing(app: App) -> None:
    async with running(app):
        job_id = await submit(app, max_tokens=2)
        told = await ended(app, job_id)
        assert (await ask(app, "POST", f"/v1/jobs/{job_id}/cancel")).json == told
    assert count(app, "requests_cancelled_total") == 0


async def test_delete_ends_and_forgets(model: Model, tokenizer: Tokenizer) -> None:
    engine = GatedEngine(model)
    app = make_app(model, tokenizer, engine=engine)
    async with running(app), trio.open_nursery() as nursery:
        job_id = await submit(app)
        stream = reader(app, job_id)
        nursery.start_soon(stream.run)
        await trio.testing.wait_all_tasks_blocked()
        answer = await ask(app, "DELETE", f"/v1/jobs/{job_id}")
        assert (answer.status, answer.json) == (200, {"job_id": job_id, "deleted": True})
        assert (await ask(app, "DELETE", f"/v1/jobs/{job_id}")).status == 404
        assert (await read(app, job_id)).status == 404
        engine.permits.release()
    assert fields(blocks(stream.body)[-1])["event"] == "job_cancelled"
    assert count(app, "jobs_kept") == count(app, "job_log_bytes") == 0


async def test_an_acknowledgement_is_a_number_that_was_made(app: App) -> None:
    async with running(app):
        job_id = await submit(app, max_tokens=4)
        await ended(app, job_id)
        path = f"/v1/jobs/{job_id}/ack"
        assert (await ask(app, "POST", path, {"id": 3})).json == {
            "job_id": job_id,
            "acknowledged": 3,
        }
        assert (await ask(app, "POST", path, {"id": 1})).json["acknowledged"] == 3
        for bad in ({"id": -1}, {"id": 99}, {"id": "1"}, {}):
            assert error(await ask(app, "POST", path, bad)) == (400, "invalid_value", "id")


@pytest.mark.parametrize("length", [0, 256])
async def test_a_key_of_no_good_length_is_refused(app: App, length: int) -> None:
    async with running(app):
        answer = await ask(app, "POST", "/v1/jobs", JOB, idempotency_key="k" * length)
    assert error(answer) == (400, "invalid_value", "Idempotency-Key")
