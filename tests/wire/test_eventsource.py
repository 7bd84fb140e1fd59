"""Real EventSources and httpx-sse: what is cut in the middle appears once and whole, and ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from httpx_sse import ServerSentEvent, aconnect_sse

from .asked import PROMPT
from .browsers import Browser, Node, chromium, missing
from .cutter import Cut, Cutter
from .servers import Server, until

BODY = {"prompt": PROMPT, "max_tokens": 60, "temperature": 0, "ignore_eos": True}
CLOSED, CONNECTING = 2, 0
Start = Callable[..., Server]

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(missing() is not None, reason=f"{missing()} is not installed"),
]


@pytest.fixture(params=["chromium", "node"])
async def browser(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Browser]:
    if request.param == "node":
        yield Node()
    else:
        async with chromium(tmp_path) as started:
            yield started


def submit(server: Server, **changes: object) -> str:
    job_id: str = server.ask("POST", "/v1/jobs", BODY | changes).json["job_id"]
    return job_id


def text_of(server: Server, job_id: str) -> str:
    text: str = server.ask("GET", f"/v1/jobs/{job_id}").json["text"]
    return text


async def through(
    server: Server, browser: Browser, paths: Sequence[str], cuts: Sequence[Cut]
) -> list[dict[str, Any]]:
    """What the browser got through a proxy that cuts streams like this."""
    cutter = Cutter(server, iter(cuts), only=b"stream?")
    async with trio.open_nursery() as nursery:
        await nursery.start(cutter.run)
        seen = await browser.follow(f"http://127.0.0.1:{cutter.port}", paths)
        nursery.cancel_scope.cancel()
    assert cutter.made == len(cuts)
    return seen


def numbers(seen: dict[str, Any]) -> list[int]:
    return [int(event_id.split(":")[-1]) for _, event_id, _ in seen["heard"]]


async def test_an_answer_that_is_cut_in_the_middle_appears_once_and_whole(
    server: Server, browser: Browser
) -> None:
    jobs = [submit(server), submit(server, prompt="A dog", temperature=1, seed=5)]
    paths = [f"/v1/stream?job_id={job_id}" for job_id in jobs]
    seen = await through(
        server, browser, paths, [Cut(down=900), Cut(down=1500), Cut(down=0), Cut(down=2100)]
    )
    for job_id, each in zip(jobs, seen, strict=True):
        assert each["text"] == text_of(server, job_id)
        assert numbers(each) == list(range(1, len(each["heard"]) + 1))
        assert each["heard"][-1][0] == "job_complete"
        # Once more for the end of the body, which is no end to an EventSource, and then 204.
        assert each["states"][-1] == CLOSED
        assert set(each["states"][:-1]) == {CONNECTING}
    # Chromium may repeat what was reset before it was answered without telling.
    assert sum(len(each["states"]) for each in seen) - 2 * 2 in (3, 4)


async def test_a_question_that_is_cut_is_asked_once(server: Server, browser: Browser) -> None:
    path = "/chat/stream?prompt=Tell+me+a+story&max_tokens=40&temperature=0&seed=1"
    with server.endings() as ended:
        (seen,) = await through(server, browser, [path], [Cut(down=900), Cut(down=1200)])
    assert ended.total() == 1
    assert numbers(seen) == list(range(1, len(seen["heard"]) + 1))
    assert seen["heard"][-1][0] == "done"
    messages = [{"role": "user", "content": "Tell me a story"}]
    asked = {"messages": messages, "max_tokens": 40, "temperature": 0}
    whole = server.ask("POST", "/v1/chat/completions", asked).json
    assert seen["text"] == whole["choices"][0]["message"]["content"]


async def test_an_unknown_job_and_a_bad_question_end_at_once(
    server: Server, browser: Browser
) -> None:
    paths = ["/v1/stream?job_id=job_x", "/chat/stream?prompt="]
    for seen in await through(server, browser, paths, []):
        assert (seen["heard"], seen["states"]) == ([], [CLOSED])


async def test_a_cancelled_job_says_so_and_ends(server: Server, browser: Browser) -> None:
    job_id = submit(server, window=3)
    await until(lambda: server.ask("GET", f"/v1/jobs/{job_id}").json["last_event_id"] == 3)
    server.ask("POST", f"/v1/jobs/{job_id}/cancel")
    (seen,) = await through(server, browser, [f"/v1/stream?job_id={job_id}"], [])
    assert [name for name, _, _ in seen["heard"]] == ["token"] * 3 + ["job_cancelled"]
    assert json.loads(seen["heard"][-1][2])["reason"] == "client"
    assert seen["states"] == [CONNECTING, CLOSED]


async def test_httpx_sse_gets_no_empty_events_from_heartbeats(start_server: Start) -> None:
    """It dispatches an empty one at any blank line once it has seen an id."""
    server = start_server("--heartbeat-s=0.05")
    job_id = submit(server, window=2)
    got: list[ServerSentEvent] = []
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        path = f"/v1/stream?job_id={job_id}"
        async with aconnect_sse(client, "GET", path) as source:
            events = source.aiter_sse()
            while not got or got[-1].event == "token":
                got.append(await anext(events))
                if len(got) == 2:
                    await trio.sleep(0.5)
                await client.post(f"/v1/jobs/{job_id}/ack", json={"id": int(got[-1].id)})
            assert [each async for each in events] == []
        ended = await client.get(path, headers={"last-event-id": got[-1].id})
    assert [int(each.id) for each in got] == list(range(1, len(got) + 1))
    assert (got[0].retry, {each.retry for each in got[1:]}) == (1000, {None})
    text = "".join(each.json()["text"] for each in got[:-1])
    assert text == text_of(server, job_id)
    assert ended.status_code == 204
