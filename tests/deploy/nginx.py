"""The real nginx with the real deploy/nginx.conf, in front of servers of a test."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.wire.servers import Server

from .manifests import COMPOSE, DEPLOY

CONF = DEPLOY / "nginx.conf"
LISTEN: str = COMPOSE["configs"]["listen"]["content"]


def require_nginx() -> None:
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed; `just test` installs it where it may")


class Nginx(Server):
    """As deploy/nginx.conf, but for where files lie; listens as it does in deploy/compose.yaml."""

    def __init__(self, folder: Path, upstreams: Sequence[str], *, listen: str = LISTEN) -> None:
        self._folder = folder
        self._place = host, port = "127.0.0.1", free_port()
        folder.mkdir()
        (folder / "nginx.conf").write_text(CONF.read_text().replace("/tmp/", f"{folder}/"))
        lines = "".join(f"server {each} max_fails=1 fail_timeout=2s;\n" for each in upstreams)
        (folder / "penstock-upstreams.conf").write_text(lines)
        (folder / "penstock-listen.conf").write_text(listen.replace("8080", f"{host}:{port}"))
        super().__init__(folder / "log")

    def statuses(self) -> list[int]:
        """Of all requests that have ended, as nginx logged them."""
        return [int(each) for each in re.findall(r"\] [A-Z]+ /\S* (\d{3}) ", self.log())]

    def _command(self, options: tuple[str, ...]) -> list[str]:
        # Its access log goes with the rest.
        told = ["nginx", "-c", str(self._folder / "nginx.conf"), "-g", "daemon off;"]
        return ["sh", "-c", 'exec "$@" >&2', "sh", *told]

    def _address(self) -> tuple[str, str, int]:
        host, port = self._place
        return f"http://{host}:{port}", host, port

    def _announced(self) -> bool:
        assert self.process.poll() is None, self.log()
        with socket.socket() as probe:
            return probe.connect_ex(self._place) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
