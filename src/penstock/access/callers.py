"""On whose account a request runs: that of its key, or where there are no keys its address."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Literal

from penstock.access.keys import Key
from penstock.requests import Caller, Limit

UNITS: tuple[Literal["requests_per_minute", "tokens_per_minute", "tokens_per_day"], ...] = (
    "requests_per_minute",
    "tokens_per_minute",
    "tokens_per_day",
)
_IPV6_CLIENT = 64
"""One who has an IPv6 address has as many as fit behind so many bits."""


def caller_with(key: Key) -> Caller:
    """Who shows `key`. What is made with it is seen with it only."""
    amounts = ((unit, getattr(key, unit)) for unit in UNITS)
    return Caller(
        account=key.name,
        scope=key.name,
        weight=key.weight,
        streams=key.streams,
        models=key.models,
        limits=tuple(Limit(unit, amount) for unit, amount in amounts if amount),
        admin=key.admin,
    )


def caller_at(host: str) -> Caller:
    """A client of a server without keys, where all may do everything. `host` may be empty."""
    return Caller(account=_account_of(host), admin=True)


def _account_of(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), _IPV6_CLIENT), strict=False))
