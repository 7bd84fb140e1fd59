"""Where a Redis is: `redis://[user:password@]host[:port][/database]`, `rediss://` with TLS."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_PORT = 6379


@dataclass(frozen=True, slots=True)
class Address:
    """A Redis server, and whom to be there."""

    host: str
    port: int
    database: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False

    def __str__(self) -> str:
        """Without what is secret."""
        scheme = "rediss" if self.tls else "redis"
        return f"{scheme}://{self.host}:{self.port}/{self.database}"


def parse_address(url: str) -> Address:
    """Raises `ValueError` that says how it is written, and does not echo what may be a secret."""
    try:
        parts = urlsplit(url)
        database = int(parts.path.strip("/") or "0")
        port = parts.port or _PORT
    except ValueError:
        database = -1
    shut = database < 0 or (parts.username is not None and parts.password is None)
    if shut or parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        raise ValueError(
            "must be memory, redis://[user:password@]host[:port][/database], or rediss:// for TLS"
        )
    return Address(
        host=parts.hostname,
        port=port,
        database=database,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=parts.scheme == "rediss",
    )
