"""huggingface_hub's clients, built on the server's address, so that the model is `dummy`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from .asked import LONG, STORY
from .servers import Server

SHORT: dict[str, Any] = {"max_tokens": 30, "temperature": 0}


@pytest.fixture
def hub(server: Server) -> Iterator[Any]:
    with InferenceClient(server.url) as made:
        yield made


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_chat_is_the_same_streamed_and_whole(hub: Any) -> None:  # noqa: ANN401
    whole = hub.chat_completion(STORY, **SHORT)
    chunks = list(hub.chat_completion(STORY, **SHORT, stream=True))
    assert text_of(chunks) == whole.choices[0].message.content != ""
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert whole.model == "default"


def test_async_chat_is_the_same_as_sync(server: Server, hub: Any) -> None:  # noqa: ANN401
    async def ask() -> tuple[str, str]:
        async with AsyncInferenceClient(server.url) as client:
            whole = await client.chat_completion(STORY, **SHORT)
            stream = await client.chat_completion(STORY, **SHORT, stream=True)
            return whole.choices[0].message.content, text_of([chunk async for chunk in stream])

    text = hub.chat_completion(STORY, **SHORT).choices[0].message.content
    assert asyncio.run(ask()) == (text, text)


def test_refusal_carries_the_message(hub: Any) -> None:  # noqa: ANN401
    with pytest.raises(HfHubHTTPError, match="max_tokens") as caught:
        hub.chat_completion(STORY, max_tokens=0)
    assert caught.value.response.status_code == 400


def test_leaving_a_stream_cancels_it_once(server: Server) -> None:
    with server.endings() as ended, InferenceClient(server.url) as client:
        stream = client.chat_completion(STORY, **LONG, stream=True)
        next(iter(stream))
        stream.close()
    assert ended == {"disconnect": 1}


def test_cancelling_the_task_cancels_its_generation_once(server: Server) -> None:
    async def ask_and_cancel() -> None:
        async with AsyncInferenceClient(server.url) as client:
            asking = asyncio.create_task(client.chat_completion(STORY, **LONG))
            await asyncio.to_thread(server.wait_active, 1)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

    with server.endings() as ended:
        asyncio.run(ask_and_cancel())
    assert ended == {"disconnect": 1}


def test_stream_read_to_its_end_is_never_cancelled(server: Server) -> None:
    with server.endings() as ended:
        for _ in range(5):
            with InferenceClient(server.url) as client:
                list(client.chat_completion(STORY, max_tokens=4, stream=True))
    assert ended.total() == 5
    assert set(ended) <= {"stop", "length"}
