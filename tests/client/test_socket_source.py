"""A job's socket beside servers that behave badly."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, TextMessage

from penstock.client import ServerError
from penstock.client.socket_source import JobSocket
from penstock.client.source import LostError

TOKEN = '{"type":"token","seq":%d,"text":"x"}'
Handler = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def source_of(handler: Handler) -> AsyncIterator[JobSocket]:
    """A socket to a server whose connections `handler` serves."""
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        source = JobSocket(httpx.URL(f"http://127.0.0.1:{port}/v1/ws"), [], "job_x")
        try:
            yield source
        finally:
            await source.close()
            nursery.cancel_scope.cancel()


async def accepted(stream: trio.SocketStream) -> WSConnection:
    """Once its client has said what it wants."""
    protocol = WSConnection(ConnectionType.SERVER)
    protocol.receive_data(bytes(await stream.receive_some()))
    assert list(protocol.events())
    await stream.send_all(protocol.send(AcceptConnection()))
    await stream.receive_some()  # resume
    return protocol


async def told(stream: trio.SocketStream, protocol: WSConnection, *messages: Event) -> None:
    await stream.send_all(b"".join(protocol.send(message) for message in messages))


async def test_a_close_that_comes_with_a_token_is_a_loss_behind_it() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        protocol = await accepted(stream)
        await told(stream, protocol, TextMessage(TOKEN % 1), CloseConnection(1013))
        await stream.receive_some()

    async with source_of(serve) as source:
        assert (await source.take(0)).fields["text"] == "x"
        with pytest.raises(LostError):
            await source.take(1)


async def test_a_message_in_parts_survives_a_wait_that_is_given_up() -> None:
    begun, rest = trio.Event(), trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        protocol = await accepted(stream)
        whole = TOKEN % 1
        await told(stream, protocol, TextMessage(whole[:9], message_finished=False))
        begun.set()
        await rest.wait()
        await told(stream, protocol, TextMessage(whole[9:]))
        await stream.receive_some()

    async with source_of(serve) as source:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.take, 0)
            await begun.wait()
            await wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        rest.set()
        assert (await source.take(0)).number == 1


async def test_a_refusal_without_a_body_is_told_by_its_status() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await stream.receive_some()

    async with source_of(serve) as source:
        with pytest.raises(ServerError, match="HTTP 403") as caught:
            with trio.fail_after(5):
                await source.take(0)
    assert caught.value.kind.status == 403
