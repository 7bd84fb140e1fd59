"""`penstock serve`."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import click
import trio

from penstock import logs
from penstock.access.keys import KeyFileError
from penstock.build import build_service, check_shared
from penstock.cli.options import collect, settings_options
from penstock.cli.processes import Shared, inherited, watch
from penstock.engine.model import ModelError
from penstock.errors import reraise_single
from penstock.served import Served
from penstock.service import Service
from penstock.settings import Settings, SettingsError
from penstock.tracing import TracingError, load_trace
from penstock.web.app import App
from penstock.web.door import make_door
from penstock.web.edge import split
from penstock.web.forwarded import ForwardedError, parse_networks
from penstock.web.listeners import BindError, bind_all, bind_metrics, check_reach, listen
from penstock.web.server import serve as serve_app
from penstock.web.tls import TlsError, load_tls


@click.command()
@settings_options()
def serve(config: Path | None, **given: object) -> None:
    """Serve a model over HTTP and WebSocket."""
    settings = collect(given, config)
    logs.to_stderr(settings.log_format, settings.log_level)
    with ExitStack() as stack:
        try:
            parse_networks(split(settings.forwarded_allow_ips))
            trace = load_trace(os.environ)
            tls = load_tls(settings)
            door = make_door(settings)
            shared = inherited()
            listeners = shared.listeners if shared else bind_all(settings)
            metrics = shared.metrics if shared else bind_metrics(settings)
            for listener in [*listeners, *metrics]:
                stack.enter_context(listener)
            if not shared and (warning := check_reach(settings, listeners)):
                _say(warning)
            if settings.uds and not shared:
                stack.callback(Path(settings.uds).unlink, missing_ok=True)
            if settings.workers > 1 and not shared:
                check_shared(settings)
                sys.exit(watch(settings.workers, listeners, metrics))
            service = build_service(settings, _say)
            service.trace = trace
            listen([*listeners, *metrics])
        except (
            ModelError,
            BindError,
            TlsError,
            ForwardedError,
            KeyFileError,
            SettingsError,
            TracingError,
        ) as error:
            raise click.ClickException(str(error)) from None
        try:
            answers = settings.role != "worker"
            app = App(service, door, shows_metrics=not metrics, answers=answers)
            trio.run(_run, app, settings, listeners, metrics, tls, shared)
        except BaseExceptionGroup as group:
            reraise_single(group)


async def _run(
    app: App,
    settings: Settings,
    listeners: list[socket.socket],
    metrics: list[socket.socket],
    tls: ssl.SSLContext | None,
    shared: Shared | None,
) -> None:
    async with trio.open_nursery() as nursery:
        serving = partial(serve_app, app, settings, listeners, metrics=metrics, tls=tls)
        await nursery.start(serving)
        if shared:
            shared.serves()
        url = _url(listeners[0], "https" if tls else "http")
        for line in banner(app.service, url, asks_for_keys=bool(settings.keys)):
            _say(line)


def _say(line: str) -> None:
    """A server whose standard error is on a full disk, or closed, serves all the same."""
    with suppress(OSError):
        click.echo(line, err=True)


def banner(service: Service, url: str, *, asks_for_keys: bool = False) -> list[str]:
    """What a newcomer needs first."""
    question = (
        '{"messages":[{"role":"user","content":"Tell me a story about a dog."}],"stream":true}'
    )
    described = [_described(served) for served in service.models.values()]
    key = "-H 'Authorization: Bearer KEY' " if asks_for_keys else ""
    return [
        *(f"penstock serves {each} on {url}" for each in described or service.offered),
        "try it:",
        f"  curl -N {_curl(url)}/v1/chat/completions {key}-d '{question}'",
    ]


def _described(served: Served) -> str:
    engine = served.decoder.engine
    return (
        f"{served.name} ({engine.model.folder}; {engine.model.device}, "
        f"{served.decoder.schedule.slots} slots of {served.max_len} tokens)"
    )


def _curl(url: str) -> str:
    path = url.removeprefix("unix:")
    return url if path == url else f"--unix-socket {path} http://localhost"


def _url(listener: socket.socket, scheme: str) -> str:
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host, port = name[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
