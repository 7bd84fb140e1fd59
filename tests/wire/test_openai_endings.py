"""openai-python: streams that are left, and its async half."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from .asked import LONG, PROMPT, STORY
from .servers import Server
from .sockets import connect


def async_openai(server: Server) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


async def test_full_server_says_when_to_come_back(start_server: Callable[..., Server]) -> None:
    small = start_server("--slots=1", "--queue=0")
    async with connect(small) as peer, async_openai(small) as client:
        await peer.start(credits=0)
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="default", messages=STORY)
    assert caught.value.code == "overloaded"
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60


def test_stream_read_to_its_end_is_never_cancelled(server: Server) -> None:
    with server.endings() as ended:
        for _ in range(20):
            with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
                for _ in client.completions.create(
                    model="default",
                    prompt=PROMPT,
                    max_tokens=8,
                    stream=True,
                    extra_body={"ignore_eos": True},
                ):
                    pass
    assert ended == {"length": 20}


def test_leaving_a_stream_cancels_it_once(server: Server, client: OpenAI) -> None:
    with (
        server.endings() as ended,
        client.chat.completions.create(
            model="default", messages=STORY, stream=True, **LONG
        ) as stream,
    ):
        for _ in stream:
            break
    assert ended == {"disconnect": 1}


def test_closing_a_stream_cancels_it_once(server: Server, client: OpenAI) -> None:
    with server.endings() as ended:
        stream = client.completions.create(model="default", prompt=PROMPT, stream=True, **LONG)
        next(iter(stream))
        stream.close()
    assert ended == {"disconnect": 1}


@pytest.mark.parametrize("stream", [False, True])
def test_cancelling_the_task_cancels_its_generation_once(server: Server, *, stream: bool) -> None:
    async def ask(client: AsyncOpenAI) -> None:
        asked: dict[str, Any] = {"model": "default", "prompt": PROMPT, **LONG}
        if not stream:
            await client.completions.create(**asked)
            return
        async with await client.completions.create(**asked, stream=True) as chunks:
            async for _ in chunks:
                pass

    async def ask_and_cancel() -> None:
        async with async_openai(server) as client:
            asking = asyncio.create_task(ask(client))
            await asyncio.to_thread(server.wait_active, 1)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

    with server.endings() as ended:
        asyncio.run(ask_and_cancel())
    assert ended == {"disconnect": 1}


def test_async_client_reads_what_the_sync_one_reads(server: Server, client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "default", "messages": STORY, "max_tokens": 30}
    asked["temperature"] = 0

    async def read() -> tuple[str | None, str]:
        async with async_openai(server) as async_client:
            answer = await async_client.chat.completions.create(**asked)
            stream = await async_client.chat.completions.create(**asked, stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return answer.choices[0].message.content, "".join(pieces)

    text = client.chat.completions.create(**asked).choices[0].message.content
    assert asyncio.run(read()) == (text, text)


def test_an_answer_read_by_the_async_client_is_not_cancelled(server: Server) -> None:
    async def read() -> None:
        for _ in range(10):
            async with async_openai(server) as client:
                stream = await client.completions.create(
                    model="default", prompt=PROMPT, max_tokens=4, stream=True
                )
                async for _ in stream:
                    pass

    with server.endings() as ended:
        asyncio.run(read())
    assert ended.total() == 10
    assert set(ended) <= {"stop", "length"}
