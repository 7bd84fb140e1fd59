"""Listening sockets: TCP for every address of a host, or a UNIX path."""

from __future__ import annotations

import os
import socket
import stat
from ipaddress import ip_address

from penstock.settings import Settings

_INTERNET = (socket.AF_INET, socket.AF_INET6)

BACKLOG = 2048
"""Hypercorn's 100 costs SYN retries: 400 clients at once took 3.2 s, with 2048 0.35 s."""


class BindError(Exception):
    """The address cannot be listened on; the message says why and what to do."""


def bind_all(settings: Settings) -> list[socket.socket]:
    """What the settings say, taken but not open yet. Raises `BindError`.

    A port that is taken is so told before a model is loaded, and nobody waits at one that is not
    served yet.
    """
    if settings.uds:
        return [bind_unix(settings.uds)]
    return bind(settings.host, settings.port)


def bind_metrics(settings: Settings) -> list[socket.socket]:
    """For `/metrics` alone, if it is to have a port of its own. Raises `BindError`."""
    return bind(settings.metrics_host, settings.metrics_port) if settings.metrics_port else []


def check_reach(settings: Settings, listeners: list[socket.socket]) -> str | None:
    """A warning where anybody may come in from elsewhere.

    Raises `BindError` where nobody has said that this is meant.
    """
    addresses = [each.getsockname()[0] for each in listeners if each.family in _INTERNET]
    public = [each for each in addresses if not ip_address(each).is_loopback]
    if settings.keys or not public:
        return None
    reached = f"others can reach {public[0]}, and no key is asked for"
    if not settings.allow_anonymous:
        raise BindError(
            f"{reached}; make keys with `penstock keys add` and name their file with --keys, "
            "or say --allow-anonymous"
        )
    return f"warning: {reached}: whoever finds this server may use it"


def listen(listeners: list[socket.socket]) -> None:
    """Open what was taken. Raises `BindError` where another server was faster."""
    for listener in listeners:
        try:
            listener.listen(BACKLOG)
        except OSError as error:
            name = listener.getsockname()
            raise BindError(f"cannot listen on {name}: {error.strerror}") from None


def bind(host: str, port: int) -> list[socket.socket]:
    """A socket for every address of `host`. Raises `BindError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return [_bind(family, address) for family, _, _, _, address in found]
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no such host name"
        raise BindError(
            f"cannot listen on {host}:{port}: {why}; choose with --host and --port"
        ) from None


def bind_unix(path: str) -> socket.socket:
    """A socket at `path`; one that a dead server left there is replaced.

    Raises `BindError`. Whoever may write to the socket's file may connect.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise BindError("this platform has no UNIX sockets; choose with --host and --port")
    try:
        _remove_dead(path)
        return _bind(socket.AF_UNIX, path)
    except OSError as error:
        raise BindError(f"cannot listen on {path}: {error.strerror or error}") from None


def _remove_dead(path: str) -> None:
    if not os.path.exists(path) or not stat.S_ISSOCK(os.stat(path).st_mode):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


def _bind(family: int, address: tuple[object, ...] | str) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
