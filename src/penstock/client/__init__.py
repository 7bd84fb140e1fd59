"""Streams and jobs of a penstock server, for Trio: `async with Client(url) as client`."""

from penstock.client.client import Client
from penstock.client.errors import ConnectionLostError, ServerError
from penstock.client.stream import TokenStream

__all__ = ["Client", "ConnectionLostError", "ServerError", "TokenStream"]
