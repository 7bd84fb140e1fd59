"""Requests that may be repeated without harm, until they are answered."""

from __future__ import annotations

from typing import Any

import httpx
import trio

from penstock.client.errors import ConnectionLostError, refusal_of

TRIES = 8
"""Connections in a row that may bring nothing."""
FIRST_PAUSE_S = 0.05
GOODBYE_S = 5.0
"""For what has to be told to the server though nobody waits any more."""


async def ask(http: httpx.AsyncClient, method: str, path: str, **rest: Any) -> dict[str, Any]:  # noqa: ANN401
    """The JSON object of the answer. Raises `ServerError` and `ConnectionLostError`."""
    for attempt in range(TRIES):
        try:
            response = await http.request(method, path, **rest)
        except httpx.TransportError:
            await trio.sleep(FIRST_PAUSE_S * 2**attempt)
            continue
        if response.status_code >= 400:
            raise refusal_of(response)
        told: dict[str, Any] = response.json()
        return told
    raise ConnectionLostError(f"{TRIES} requests in a row got no answer; is the server there?")


def farewell() -> trio.CancelScope:
    """A scope for `GOODBYE_S` that is not cancelled with those around it."""
    return trio.CancelScope(deadline=trio.current_time() + GOODBYE_S, shield=True)
