"""What every connection of one server shares."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import partial

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from penstock.settings import Settings
from penstock.web.cors import Asgi, Cors
from penstock.web.forwarded import Forwarded


def wrap(app: Asgi, settings: Settings) -> Asgi:
    """The application with what the settings put around it. Raises `ForwardedError`."""
    trusted, origins = split(settings.forwarded_allow_ips), split(settings.cors_origins)
    if origins:
        app = Cors(app, origins)
    return Forwarded(app, trusted) if trusted else app


def split(listed: str) -> list[str]:
    return [part.strip() for part in listed.split(",") if part.strip()]


@dataclass(frozen=True)
class Edge:
    """The application, the settings, Hypercorn's own objects, and whether a drain has begun."""

    app: ASGIWrapper
    settings: Settings
    config: Config
    tls: ssl.SSLContext | None = None
    context: WorkerContext = field(default_factory=partial(WorkerContext, None))
    draining: trio.Event = field(default_factory=trio.Event)
