"""/metrics on a port of its own, for those who scrape and nobody else."""

from __future__ import annotations

from typing import Any

from penstock.errors import METHOD_NOT_ALLOWED, NOT_FOUND, PenstockError
from penstock.metrics import CONTENT_TYPE, Metrics
from penstock.web.exchange import Exchange, Receive, Send

PATH = "/metrics"


class MetricsPage:
    """An ASGI application with one page. It asks for no key: who reaches its port may read it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        if scope["path"] != PATH:
            await exchange.respond_error(PenstockError(NOT_FOUND, f"only {PATH} is here"))
        elif scope["method"] not in ("GET", "HEAD"):
            error = PenstockError(METHOD_NOT_ALLOWED, "this path takes GET only")
            await exchange.respond_error(error, headers=[(b"allow", b"GET, HEAD")])
        else:
            headers = [(b"content-type", CONTENT_TYPE.encode("ascii"))]
            await exchange.respond(200, headers, self._metrics.render())
