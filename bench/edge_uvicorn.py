"""What many would write: starlette's StreamingResponse over an asyncio.Queue, on uvicorn, uvloop.

Runs in an environment of its own: `pip install uvicorn uvloop httptools starlette`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

EVENT = 'data: {"id":"cmpl-0123456789abcdef","object":"text","index":%d,"text":" token"}\n\n'


async def produce(queue: asyncio.Queue[int]) -> None:
    index = 0
    while True:
        index += 1
        await queue.put(index)


async def events() -> AsyncIterator[bytes]:
    queue: asyncio.Queue[int] = asyncio.Queue(16)
    producer = asyncio.create_task(produce(queue))
    try:
        while True:
            yield (EVENT % await queue.get()).encode()
    finally:
        producer.cancel()


async def stream(_: Request) -> StreamingResponse:
    return StreamingResponse(events(), media_type="text/event-stream")


if __name__ == "__main__":
    uvicorn.run(
        Starlette(routes=[Route("/stream", stream)]),
        port=int(sys.argv[1]),
        loop="uvloop",
        access_log=False,
        backlog=2048,
        log_level="warning",
    )
