"""What is asked of a client of Redis, and the one that there is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias

from glide import GlideClient, Script, StreamReadOptions

from penstock.jobs.redis.address import Address
from penstock.jobs.redis.configuration import configure


class Client(Protocol):
    """One connection. All of it raises `GlideError`, after which what was asked may be done."""

    async def invoke_script(
        self, script: Script, keys: list[str | bytes], args: list[str | bytes]
    ) -> Any: ...  # noqa: ANN401  # as the script

    async def custom_command(self, command_args: list[str | bytes]) -> Any: ...  # noqa: ANN401

    async def xread(
        self, keys_and_ids: Mapping[str | bytes, str | bytes], options: StreamReadOptions
    ) -> Any: ...  # noqa: ANN401  # of each stream its entries

    async def info(self) -> bytes: ...

    async def close(self) -> None: ...


Connect: TypeAlias = Callable[[Address], Awaitable[Client]]
"""Raises `GlideError` where nobody answers there."""


async def connect(address: Address) -> Client:
    client: Client = await GlideClient.create(configure(address))
    return client
