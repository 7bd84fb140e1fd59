"""`penstock serve`."""

from __future__ import annotations

import socket
import ssl
import sys
from functools import partial
from pathlib import Path

import click
import trio

from penstock.build import build_service
from penstock.cli import logs
from penstock.cli.options import collect, settings_options
from penstock.engine.model import ModelError
from penstock.errors import reraise_single
from penstock.service import Service
from penstock.settings import Settings
from penstock.web.app import App
from penstock.web.edge import split
from penstock.web.forwarded import ForwardedError, parse_networks
from penstock.web.listeners import BindError, listen
from penstock.web.server import serve as serve_app
from penstock.web.tls import TlsError, load_tls


@click.command()
@settings_options()
def serve(config: Path | None, **given: object) -> None:
    """Serve a model over HTTP and WebSocket."""
    settings = collect(given, config)
    logs.configure(settings.log_format)
    try:
        service = build_service(settings)
        parse_networks(split(settings.forwarded_allow_ips))
        tls = load_tls(settings)
        listeners = listen(settings)
    except (ModelError, BindError, TlsError, ForwardedError) as error:
        raise click.ClickException(str(error)) from None
    try:
        trio.run(_run, App(service), settings, listeners, tls)
    except BaseExceptionGroup as group:
        reraise_single(group)
    finally:
        if settings.uds:
            Path(settings.uds).unlink(missing_ok=True)


async def _run(
    app: App,
    settings: Settings,
    listeners: list[socket.socket],
    tls: ssl.SSLContext | None,
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_app, app, settings, listeners, tls=tls))
        for line in banner(app.service, _url(listeners[0], "https" if tls else "http")):
            click.echo(line, file=sys.stderr)


def banner(service: Service, url: str) -> list[str]:
    """What a newcomer needs first."""
    model, schedule = service.decoder.engine.model, service.decoder.schedule
    question = (
        '{"messages":[{"role":"user","content":"Tell me a story about a dog."}],"stream":true}'
    )
    return [
        f"penstock serves {service.name} ({model.folder}) on {url}",
        f"device {model.device}, {schedule.slots} slots of {service.limits.max_len} tokens",
        "try it:",
        f"  curl -N {_curl(url)}/v1/chat/completions -d '{question}'",
    ]


def _curl(url: str) -> str:
    path = url.removeprefix("unix:")
    return url if path == url else f"--unix-socket {path} http://localhost"


def _url(listener: socket.socket, scheme: str) -> str:
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host, port = name[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
