"""GET /v1/flow: how far named streams are, and what the decoders do, for a live picture."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from quart import Response, request
from quart_trio import QuartTrio

from penstock.errors import invalid
from penstock.protocols import sse
from penstock.service import Service
from penstock.web.door import caller_of

MAX_NAMES = 64


def add_flow(app: QuartTrio, service: Service) -> None:
    """Who made a stream may look at it by its id; nobody is told of the streams of others."""

    @app.get("/v1/flow")
    async def flow() -> Response:
        names = request.args.getlist("id")
        if len(names) > MAX_NAMES:
            raise invalid("id", f"ask for at most {MAX_NAMES} streams at once")
        sights = {name: service.streams.look(name, caller_of(request.scope)) for name in names}
        streams = {name: asdict(sight) for name, sight in sights.items() if sight is not None}
        told = {"decoder": _sum(service), "streams": streams}
        response = Response(sse.dump(told), 200, content_type="application/json")
        response.headers["Cache-Control"] = "no-store"
        return response


def _sum(service: Service) -> dict[str, Any]:
    """What all models do together. `lookahead` is the first one's; they share one setting."""
    decoders = [served.decoder for served in service.models.values()]
    schedules = [decoder.schedule for decoder in decoders]
    return {
        "slots": sum(schedule.slots for schedule in schedules),
        "active": sum(schedule.active for schedule in schedules),
        "waiting": sum(schedule.waiting for schedule in schedules),
        "parked": sum(schedule.parked for schedule in schedules),
        "evicted": sum(schedule.evicted for schedule in schedules),
        "steps": sum(decoder.steps for decoder in decoders),
        "rows": sum(decoder.rows for decoder in decoders),
        "lookahead": schedules[0].lookahead if schedules else 0,
    }
