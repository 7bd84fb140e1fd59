"""The routes that generate nothing: models, health, readiness, metrics. JSON errors everywhere."""

from __future__ import annotations

import secrets

from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
)

from penstock.errors import (
    METHOD_NOT_ALLOWED,
    MODEL_NOT_FOUND,
    NOT_FOUND,
    TOO_LARGE,
    PenstockError,
    internal,
    invalid,
)
from penstock.metrics import CONTENT_TYPE
from penstock.protocols.openai import dump_error
from penstock.protocols.openai_answer import render_model
from penstock.protocols.sse import dump
from penstock.service import DEFAULT_ALIAS, Service
from penstock.web.requests import Requests


def make_ops(service: Service, requests: Requests) -> QuartTrio:
    """The Quart application for everything outside the pipeline."""
    app = QuartTrio("penstock", static_folder=None)
    # Quart's own deadline of 60 s ends a response without an error and without its last chunk.
    app.config["RESPONSE_TIMEOUT"] = None
    app.config["MAX_CONTENT_LENGTH"] = service.limits.max_body_bytes
    _add_models(app, service)
    _add_health(app, service)
    _add_cancel(app, requests)
    app.after_request(_name)
    _add_errors(app, service)
    return app


def _add_models(app: QuartTrio, service: Service) -> None:
    @app.get("/v1/models")
    async def models() -> Response:
        listed = [render_model(served.name, served.created) for served in service.offered.values()]
        return _json({"object": "list", "data": listed})

    @app.get("/v1/models/<path:name>")
    async def model(name: str) -> Response:
        if name != DEFAULT_ALIAS and name not in service.offered:
            raise PenstockError(
                MODEL_NOT_FOUND, "no such model here; see /v1/models", param="model"
            )
        served = service.resolve(name)
        return _json(render_model(served.name, served.created))


def _add_health(app: QuartTrio, service: Service) -> None:
    @app.get("/health")
    async def health() -> Response:
        return Response(b"", 200)

    @app.get("/ready")
    async def ready() -> Response:
        why = await service.unready()
        if why is None:
            return _json({"status": "ready"})
        return _json({"error": "unhealthy", "error_type": "healthcheck", "reason": why}, 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.render(), 200, content_type=CONTENT_TYPE)


def _add_errors(app: QuartTrio, service: Service) -> None:
    """Each is async, since Quart runs what is not in a thread."""

    @app.errorhandler(PenstockError)
    async def refuse(error: PenstockError) -> Response:
        service.metrics.refused.labels(error.kind.code).inc()
        return _render(error)

    @app.errorhandler(HTTPException)
    async def refuse_http(error: HTTPException) -> Response:
        return _render_http(error)

    @app.errorhandler(Exception)
    async def fail(_: Exception) -> Response:
        return _render(internal())


def _add_cancel(app: QuartTrio, requests: Requests) -> None:
    @app.post("/v1/requests/<number>/cancel")
    async def cancel_request(number: str) -> Response:
        return _json({"request_id": number, "status": requests.cancel(number)})


async def _name(response: Response) -> Response:
    response.headers["x-request-id"] = secrets.token_hex(12)
    return response


def _json(value: object, status: int = 200) -> Response:
    return Response(dump(value), status, content_type="application/json")


def _render(error: PenstockError) -> Response:
    response = Response(dump_error(error), error.kind.status, content_type="application/json")
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def _render_http(error: HTTPException) -> Response:
    if isinstance(error, NotFound):
        return _render(PenstockError(NOT_FOUND, "no such path here"))
    if isinstance(error, MethodNotAllowed):
        response = _render(PenstockError(METHOD_NOT_ALLOWED, "this path does not take this method"))
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
        return response
    if isinstance(error, RequestEntityTooLarge):
        return _render(PenstockError(TOO_LARGE, "the body is too large; send less"))
    return _render(invalid("request", "the request cannot be understood"))
