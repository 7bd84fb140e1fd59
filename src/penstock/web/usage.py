"""GET /v1/usage: what the caller has used of what it may use."""

from __future__ import annotations

from quart import Response, request
from quart_trio import QuartTrio

from penstock.limits import Use
from penstock.protocols import sse
from penstock.requests import Caller
from penstock.service import Service
from penstock.web.door import caller_of


def add_usage(app: QuartTrio, service: Service) -> None:
    @app.get("/v1/usage")
    async def usage() -> Response:
        caller = caller_of(request.scope)
        told = _render(caller, await service.usage(caller))
        return Response(sse.dump(told), content_type="application/json")


def _render(caller: Caller, use: Use) -> dict[str, object]:
    """Limits that are not set are not there; so is what is counted for them."""
    limits = [
        {
            "unit": limit.unit,
            "limit": limit.amount,
            "used": used,
            "left": max(limit.amount - used, 0),
        }
        for limit, used in use.used.items()
    ]
    streams = {"limit": caller.streams or None, "open": use.streams}
    return {"object": "usage", "account": caller.account, "limits": limits, "streams": streams}
