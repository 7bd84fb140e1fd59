"""The playground: static files of this package, at `/` for browsers and under `/static/`.

Files are read once. They are not named by their content, so a browser asks each time whether its
copy is still good, and is told so by the ETag.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from penstock import origin

FOLDER = Path(__file__).parent / "static"
PREFIX = "/static/"
PAGE = "index.html"
TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".woff2": b"font/woff2",
    ".txt": b"text/plain; charset=utf-8",
}
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
    (b"vary", b"Accept"),  # what `/` is depends on it
)


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, ready to be sent."""

    content_type: bytes
    body: bytes
    etag: bytes


def find(scope: Mapping[str, Any]) -> Asset | None:
    """The file that a request is for; None leaves it to the other routes.

    `/` is the page only for those who say that they take HTML: others ask it for their health.
    """
    if scope["method"] not in ("GET", "HEAD"):
        return None
    path = scope["path"]
    if path == "/":
        return _assets()[PAGE] if _takes_html(scope["headers"]) else None
    return _assets().get(path.removeprefix(PREFIX)) if path.startswith(PREFIX) else None


async def serve(
    asset: Asset, scope: Mapping[str, Any], send: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    """Send it whole, or 304 to a browser that has it."""
    known = _header(scope["headers"], b"if-none-match") or b""
    fresh = asset.etag in [each.strip().removeprefix(b"W/") for each in known.split(b",")]
    headers = [*HEADERS, (b"etag", asset.etag)]
    headers.append((b"x-request-id", origin.current().request_id.encode("ascii")))
    if not fresh:
        headers.append((b"content-type", asset.content_type))
        headers.append((b"content-length", str(len(asset.body)).encode("ascii")))
    status = 304 if fresh else 200
    body = b"" if fresh or scope["method"] == "HEAD" else asset.body
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


@cache
def _assets() -> Mapping[str, Asset]:
    """By name. Nothing outside this list can be asked for, whatever a path says."""
    return {
        path.name: Asset(TYPES[path.suffix], body, _etag(body))
        for path in sorted(FOLDER.iterdir())
        if (body := path.read_bytes())
    }


def _etag(body: bytes) -> bytes:
    return b'"' + sha256(body).hexdigest()[:32].encode("ascii") + b'"'


def _takes_html(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return b"text/html" in (_header(headers, b"accept") or b"").lower()


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    return next((value for key, value in headers if key.lower() == name), None)
