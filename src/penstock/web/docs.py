"""GET /openapi.json and /docs: what this server takes, for programs and for people."""

from __future__ import annotations

from quart import Response
from quart_trio import QuartTrio

from penstock import __version__
from penstock.protocols.docs_page import CONTENT_TYPE, POLICY, render_page
from penstock.protocols.openapi import make_document
from penstock.protocols.sse import dump


def add_docs(app: QuartTrio) -> None:
    document = make_document(__version__)
    text, page = dump(document), render_page(document)

    @app.get("/openapi.json")
    async def openapi() -> Response:
        return Response(text, 200, content_type="application/json")

    @app.get("/docs")
    async def docs() -> Response:
        headers = {"content-security-policy": POLICY}
        return Response(page, 200, content_type=CONTENT_TYPE, headers=headers)
