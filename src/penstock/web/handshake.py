"""What is told in answer to a WebSocket's handshake."""

from __future__ import annotations

from penstock import origin
from penstock.errors import PenstockError
from penstock.protocols.openai import dump_error
from penstock.web.exchange import JSON, Send, error_headers


async def deny(send: Send, error: PenstockError) -> None:
    """Refuse a handshake with a status and a JSON body."""
    body = dump_error(error).encode("ascii")
    length = (b"content-length", str(len(body)).encode("ascii"))
    headers = [*JSON, *error_headers(error), length, request_id()]
    status = error.kind.status
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})


def request_id() -> tuple[bytes, bytes]:
    """For the headers of any answer."""
    return b"x-request-id", origin.current().request_id.encode("ascii")
