"""How the client connects to Redis."""

from __future__ import annotations

from glide import (
    BackoffStrategy,
    GlideClientConfiguration,
    Logger,
    LogLevel,
    NodeAddress,
    ServerCredentials,
)

from penstock.jobs.redis.address import Address

REQUEST_S = 2.0

# It would write to stderr what `Link` tells in one line.
Logger.set_logger_config(LogLevel.OFF)


def configure(address: Address) -> GlideClientConfiguration:
    """How each connection is made."""
    credentials = None
    if address.password is not None:
        credentials = ServerCredentials(address.password, address.username)
    return GlideClientConfiguration(
        [NodeAddress(address.host, address.port)],
        use_tls=address.tls,
        credentials=credentials,
        database_id=address.database,
        request_timeout=int(REQUEST_S * 1000),
        reconnect_strategy=BackoffStrategy(num_of_retries=3, factor=50, exponent_base=2),
        inflight_requests_limit=100_000,
    )
