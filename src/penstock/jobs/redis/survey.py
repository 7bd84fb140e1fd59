"""What a Redis says of itself, and what of that would lose jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """`grave` where what was confirmed may vanish while Redis is up."""

    what: str
    advice: str
    grave: bool = False


def read_info(told: bytes | str) -> Mapping[str, str]:
    """The fields of `INFO`."""
    text = told.decode() if isinstance(told, bytes) else told
    lines = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in lines}


def version(info: Mapping[str, str]) -> str:
    """Of Valkey, or of Redis; Valkey says for which Redis's clients it can stand, too."""
    if told := info.get("valkey_version"):
        return f"Valkey {told}"
    return f"Redis {info.get('redis_version', 'of no version')}"


def find_faults(info: Mapping[str, str]) -> Iterator[Fault]:
    """What is not told, as some hosts do, is taken for good."""
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield Fault(
            f"its maxmemory-policy is {policy}, which throws away jobs, leases and counts",
            "set maxmemory-policy noeviction",
            grave=True,
        )
    if info.get("aof_enabled") == "0":
        yield Fault(
            "it is without appendonly: when it restarts, jobs and counts are lost",
            "set appendonly yes, and appendfsync always if no job may be lost",
        )
