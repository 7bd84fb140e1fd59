"""Sockets, signals and shutdown: `penstock serve`'s own loop over Hypercorn's protocol code."""

from __future__ import annotations

import logging
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

from penstock.settings import Settings
from penstock.web.app import App
from penstock.web.connection import Connection
from penstock.web.edge import Edge, wrap
from penstock.web.metrics_page import MetricsPage

WS_MESSAGE_BYTES = 1 << 20
LAST_WORDS_S = 0.2
"""After a drain, the time in which connections may still be closed politely."""


async def serve(
    app: App,
    settings: Settings,
    listeners: list[socket.socket],
    *,
    metrics: Sequence[socket.socket] = (),
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until SIGTERM or SIGINT, then drain; a second signal ends the drain at once."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        await serve_until(
            partial(anext, signals),
            app,
            settings,
            listeners,
            metrics=metrics,
            tls=tls,
            task_status=task_status,
        )


async def serve_until(
    wait_stop: Callable[[], Awaitable[object]],
    app: App,
    settings: Settings,
    listeners: list[socket.socket],
    *,
    metrics: Sequence[socket.socket] = (),
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until `wait_stop` returns, then drain until it returns again at the latest.

    `metrics` are listeners for `/metrics` alone, which can be read as long as there is a service.

    Resource handling: `listeners` are closed, and every connection, slot and task is gone, when
    this returns.
    """
    wrapped = ASGIWrapper(cast("ASGIFramework", wrap(app, settings)))
    edge = Edge(wrapped, settings, _config(settings), tls)
    async with trio.open_nursery() as service_nursery:
        service_nursery.start_soon(app.service.run)
        if metrics:
            page = ASGIWrapper(cast("ASGIFramework", MetricsPage(app.service.metrics)))
            aside = Edge(page, settings, _config(settings))
            await service_nursery.start(_accept, aside, metrics, service_nursery)
        async with trio.open_nursery() as connections:
            accepting = await connections.start(_accept, edge, listeners, connections)
            task_status.started()
            await wait_stop()
            connections.start_soon(_cut_at, wait_stop, connections.cancel_scope)
            await _drain(app, edge, accepting)
            connections.cancel_scope.cancel()
        service_nursery.cancel_scope.cancel()


async def _accept(
    edge: Edge,
    listeners: Sequence[socket.socket],
    connections: trio.Nursery,
    *,
    task_status: trio.TaskStatus[trio.CancelScope],
) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await Connection(edge, stream).run()

    streams = [trio.SocketListener(trio.socket.from_stdlib_socket(each)) for each in listeners]
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await trio.serve_listeners(handle, streams, handler_nursery=connections)


async def _drain(app: App, edge: Edge, accepting: trio.CancelScope) -> None:
    accepting.cancel()
    edge.draining.set()
    await app.service.drain(edge.settings.drain_s)
    await trio.sleep(LAST_WORDS_S)


async def _cut_at(
    wait_stop: Callable[[], Awaitable[object]], connections: trio.CancelScope
) -> None:
    await wait_stop()
    connections.cancel()


def _config(settings: Settings) -> Config:
    config = Config()
    config.errorlog = logging.getLogger("penstock.http")
    config.include_server_header = False
    config.websocket_max_message_size = WS_MESSAGE_BYTES
    config.websocket_ping_interval = settings.ping_interval_s
    return config
