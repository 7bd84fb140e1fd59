"""The application for any ASGI server that runs on Trio: `hypercorn -k trio penstock.asgi:app`.

Settings come from `PENSTOCK_…` variables and the file that `PENSTOCK_CONFIG` names. What only
`penstock serve` can do is listed in docs/deployment.md.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from penstock import logs
from penstock.access.keys import KeyFileError
from penstock.build import build_service
from penstock.engine.model import ModelError
from penstock.settings import ENV_PREFIX, Settings, SettingsError, build, read_environ, read_toml
from penstock.tracing import TracingError, load_trace
from penstock.web.app import App
from penstock.web.cors import Asgi
from penstock.web.door import make_door
from penstock.web.edge import wrap
from penstock.web.exchange import Receive, Send
from penstock.web.forwarded import ForwardedError

_logger = logging.getLogger(__name__)


class Deployed:
    """The application, made when the server starts its lifespan, not when it is imported.

    Hypercorn imports it in processes that serve nothing.
    """

    def __init__(self) -> None:
        self._app: Asgi | None = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if self._app is None:
            if scope["type"] != "lifespan":
                raise RuntimeError("penstock.asgi needs a server that runs the lifespan protocol")
            try:
                settings = _settings()
                logs.to_logging()
                door, trace = make_door(settings), load_trace(os.environ)
                service = build_service(settings, _logger.info)
                service.trace = trace
                self._app = wrap(App(service, door), settings)
            except (
                SettingsError,
                ModelError,
                ForwardedError,
                KeyFileError,
                TracingError,
            ) as error:
                await receive()
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
        await self._app(scope, receive, send)


def _settings() -> Settings:
    config = os.environ.get(f"{ENV_PREFIX}CONFIG")
    values = read_toml(Path(config)) if config else {}
    return build(values | read_environ(os.environ), source="the environment")


app = Deployed()
