"""One small GET: a server's list of models, or its metrics."""

from __future__ import annotations

import h11
import trio

from penstock.loadgen.answer import Headers
from penstock.loadgen.wire import Connect, Target

PATIENCE_S = 10.0
LARGEST = 4 << 20


class FetchError(Exception):
    """No such page, or none that came in time."""


async def fetch(target: Target, connect: Connect, path: str, headers: Headers = ()) -> bytes:
    """The body at `path`. Raises `FetchError`."""
    try:
        with trio.fail_after(PATIENCE_S):
            return await _fetch(target, connect, path, headers)
    except trio.TooSlowError:
        raise FetchError(f"{path}: no answer within {PATIENCE_S:.0f} s") from None
    except h11.RemoteProtocolError as error:
        raise FetchError(f"{path}: {error}") from None
    except (OSError, trio.BrokenResourceError) as error:
        raise FetchError(f"{target.authority}: {error.__cause__ or error}") from None


async def _fetch(target: Target, connect: Connect, path: str, headers: Headers) -> bytes:
    http = h11.Connection(h11.CLIENT)
    told = [("host", target.authority), ("connection", "close"), *headers]
    request = h11.Request(method="GET", target=path, headers=told)
    stream = await connect(False)
    try:
        await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        return await _body(http, stream, path)
    finally:
        await trio.aclose_forcefully(stream)


async def _body(http: h11.Connection, stream: trio.abc.Stream, path: str) -> bytes:
    body = b""
    while len(body) < LARGEST:
        match http.next_event():
            case h11.NEED_DATA:
                http.receive_data(bytes(await stream.receive_some(1 << 16)))
            case h11.Response(status_code=status) if status != 200:
                raise FetchError(f"{path}: status {status}")
            case h11.Data(data=data):
                body += data
            case h11.EndOfMessage():
                return body
    raise FetchError(f"{path}: longer than {LARGEST} bytes")
