"""The routes that generate nothing: models, health, readiness, metrics. JSON errors everywhere."""

from __future__ import annotations

import structlog
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
)

from penstock import origin
from penstock.choosing import DEFAULT_ALIAS
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
from penstock.service import Service
from penstock.web import tabby, tgi
from penstock.web.docs import add_docs
from penstock.web.door import caller_of, require_admin
from penstock.web.exchange import error_headers
from penstock.web.requests import Requests

log = structlog.get_logger()

PROBES = frozenset({"/health", "/ready", "/metrics"})
"""Asked every few seconds by machines: lines about them would bury the others."""


def make_ops(service: Service, requests: Requests, *, shows_metrics: bool) -> QuartTrio:
    """The Quart application for everything outside the pipeline."""
    app = QuartTrio("penstock", static_folder=None)
    # Quart's own deadline of 60 s ends a response without an error and without its last chunk.
    app.config["RESPONSE_TIMEOUT"] = None
    app.config["MAX_CONTENT_LENGTH"] = service.limits.max_body_bytes
    _add_models(app, service)
    _add_health(app, service)
    if shows_metrics:
        _add_metrics(app, service)
    _add_cancel(app, service, requests)
    _add_info(app, service)
    add_docs(app)
    app.after_request(_name)
    _add_errors(app, service)
    return app


def _add_models(app: QuartTrio, service: Service) -> None:
    @app.get("/v1/models")
    async def models() -> Response:
        allowed = service.allowed(caller_of(request.scope)).values()
        listed = [render_model(served.name, served.created) for served in allowed]
        return _json({"object": "list", "data": listed})

    @app.get("/v1/models/<path:model>")
    async def model(model: str) -> Response:
        caller = caller_of(request.scope)
        if model != DEFAULT_ALIAS and model not in service.allowed(caller):
            raise PenstockError(
                MODEL_NOT_FOUND, "no such model here; see /v1/models", param="model"
            )
        served = service.resolve(model, caller)
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


def _add_metrics(app: QuartTrio, service: Service) -> None:
    @app.get("/metrics")
    async def metrics() -> Response:
        require_admin(caller_of(request.scope))
        return Response(service.metrics.render(), 200, content_type=CONTENT_TYPE)


def _add_errors(app: QuartTrio, service: Service) -> None:
    """Each is async, since Quart runs what is not in a thread."""

    @app.errorhandler(PenstockError)
    async def refuse(error: PenstockError) -> Response:
        service.refused(error)
        return _render(error)

    @app.errorhandler(HTTPException)
    async def refuse_http(error: HTTPException) -> Response:
        told, headers = _translate(error)
        service.refused(told)
        response = _render(told)
        response.headers.update(headers)
        return response

    @app.errorhandler(Exception)
    async def fail(error: Exception) -> Response:
        log.error("a request failed", exc_info=error, **origin.current().told())
        return _render(internal())


def _add_cancel(app: QuartTrio, service: Service, requests: Requests) -> None:
    @app.post("/v1/requests/<request_id>/cancel")
    async def cancel_request(request_id: str) -> Response:
        caller = caller_of(request.scope)
        status = await requests.cancel(request_id, caller)
        return _json({"request_id": request_id, "status": status})


def _add_info(app: QuartTrio, service: Service) -> None:
    """What clients of TGI and Tabby want to know of a server first."""

    @app.get("/info")
    async def tgi_info() -> Response:
        return _json(tgi.info(service, caller_of(request.scope)))

    @app.route("/v1/health", methods=["GET", "POST"])
    async def tabby_health() -> Response:
        return _json(tabby.health(service, caller_of(request.scope)))

    @app.get("/v1beta/server_setting")
    async def tabby_settings() -> Response:
        return _json({"disable_client_side_telemetry": True})


async def _name(response: Response) -> Response:
    asked = origin.current()
    response.headers["x-request-id"] = asked.request_id
    if response.status_code < 400 and asked.route not in PROBES:
        log.info("request answered", status=response.status_code, **asked.told())
    return response


def _json(value: object, status: int = 200) -> Response:
    return Response(dump(value), status, content_type="application/json")


def _render(error: PenstockError) -> Response:
    response = Response(dump_error(error), error.kind.status, content_type="application/json")
    for name, value in error_headers(error):
        response.headers[name.decode("ascii")] = value.decode("ascii")
    return response


def _translate(error: HTTPException) -> tuple[PenstockError, dict[str, str]]:
    """What the framework found, as we tell it, and with which headers."""
    if isinstance(error, NotFound):
        return PenstockError(NOT_FOUND, "no such path here"), {}
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        message = "this path does not take this method"
        return PenstockError(METHOD_NOT_ALLOWED, message), {"Allow": allowed}
    if isinstance(error, RequestEntityTooLarge):
        return PenstockError(TOO_LARGE, "the body is too large; send less"), {}
    return invalid("request", "the request cannot be understood"), {}
