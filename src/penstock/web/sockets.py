"""Options of one connection's socket. What a platform lacks is skipped."""

from __future__ import annotations

import math
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SO_KEEPALIVE, SO_SNDBUF, SOL_SOCKET

import trio

from penstock.settings import Settings

PROBES = 3
"""Unanswered keepalive probes after which a silent peer is dead."""
A_DAY_S = 86_400.0
BEYOND_A_STALL = 1.5
"""TCP_USER_TIMEOUT counts a shut window too, from before the writer blocks. A reader that has
stopped is to end by its own deadline, as stalled."""


def tune(socket: trio.socket.SocketType, settings: Settings) -> None:
    """Notice dead networks, and bound what the kernel holds for a reader that has stopped."""
    if settings.send_buffer_bytes:
        socket.setsockopt(SOL_SOCKET, SO_SNDBUF, settings.send_buffer_bytes)
        # Bytes that the kernel takes beyond what it has sent.
        _set(socket, "TCP_NOTSENT_LOWAT", settings.send_buffer_bytes)
    if socket.family not in (AF_INET, AF_INET6):
        return
    socket.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    probe_s = max(1, math.ceil(settings.dead_after_s / (PROBES + 1)))
    _set(socket, "TCP_KEEPIDLE", probe_s)
    _set(socket, "TCP_KEEPINTVL", probe_s)
    _set(socket, "TCP_KEEPCNT", PROBES)
    unacknowledged_s = max(settings.dead_after_s, BEYOND_A_STALL * settings.stall_deadline_s)
    _set(socket, "TCP_USER_TIMEOUT", round(1000 * min(unacknowledged_s, A_DAY_S)))


def _set(socket: trio.socket.SocketType, option: str, value: int) -> None:
    number = getattr(trio.socket, option, None)
    if number is not None and socket.family in (AF_INET, AF_INET6):
        socket.setsockopt(IPPROTO_TCP, number, value)
