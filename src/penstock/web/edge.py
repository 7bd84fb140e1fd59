"""What every connection of one server shares."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

if TYPE_CHECKING:
    from penstock.settings import Settings


@dataclass(frozen=True)
class Edge:
    """The application, the settings, Hypercorn's own objects, and whether a drain has begun."""

    app: ASGIWrapper
    settings: Settings
    config: Config
    tls: ssl.SSLContext | None = None
    context: WorkerContext = field(default_factory=partial(WorkerContext, None))
    draining: trio.Event = field(default_factory=trio.Event)
