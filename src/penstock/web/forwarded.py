"""Who a client is when a proxy stands before us: believed from trusted addresses only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias

from penstock.web.cors import Asgi
from penstock.web.exchange import Receive, Send

Network: TypeAlias = IPv4Network | IPv6Network
UNIX = "unix"
"""Trusts whoever connects by a UNIX socket: the socket's file says who may."""


class ForwardedError(ValueError):
    """A trusted address that is none; the message says which."""


class Forwarded:
    """Puts the client and the scheme that trusted proxies report into the scope."""

    def __init__(self, app: Asgi, trusted: Sequence[str]) -> None:
        self._app = app
        self._all = "*" in trusted
        self._unix = self._all or UNIX in trusted
        self._networks = tuple(parse_networks(trusted))

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and self._trusts_peer(scope.get("client")):
            scope = {**scope, **self._reported(scope)}
        await self._app(scope, receive, send)

    def _trusts_peer(self, client: tuple[str, int] | None) -> bool:
        return self._unix if client is None else self._trusts(client[0])

    def _trusts(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return self._all or any(address in network for network in self._networks)

    def _reported(self, scope: dict[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = {}
        hops = _values(scope, b"x-forwarded-for")
        # From the right: what an untrusted hop has written about those before it means nothing.
        for hop in reversed(hops):
            if not _is_address(hop):
                break
            told["client"] = (hop, 0)
            if not self._trusts(hop):
                break
        schemes = _values(scope, b"x-forwarded-proto")
        if schemes and schemes[-1] in ("http", "https"):
            told["scheme"] = schemes[-1].replace("http", "ws", 1) if _is_ws(scope) else schemes[-1]
        return told


def parse_networks(trusted: Iterable[str]) -> list[Network]:
    """Addresses and networks. Raises `ForwardedError`."""
    found: list[Network] = []
    for each in trusted:
        if each in ("*", UNIX):
            continue
        try:
            found.append(ip_network(each, strict=False))
        except ValueError:
            raise ForwardedError(
                f"forwarded_allow_ips: {each!r} is no address, no network, and neither * nor unix"
            ) from None
    return found


def _is_ws(scope: dict[str, Any]) -> bool:
    return bool(scope["type"] == "websocket")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _values(scope: dict[str, Any], name: bytes) -> list[str]:
    lines = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]
    return [part.strip() for line in lines for part in line.split(",") if part.strip()]
