"""aiohttp-sse-client: a job's events."""

from __future__ import annotations

import asyncio

from aiohttp_sse_client.client import EventSource
from driving import main
from job import COMPLETIONS, LONG, Story, refused, submit, whole


async def read(url: str) -> dict[str, str]:
    story = Story()
    async with EventSource(url + submit(url)) as source:
        async for event in source:
            if not story.take(event.type, event.last_event_id, event.data):
                break
    return {"text": story.text}


async def abort(url: str) -> None:
    async with EventSource(url + COMPLETIONS, {"method": "POST"}, json=LONG) as source:
        async for _ in source:
            break


def streamed(url: str) -> dict[str, str]:
    return asyncio.run(read(url))


def aborted(url: str) -> None:
    asyncio.run(abort(url))


main(whole, streamed, aborted, refused)
