"""`penstock bench`: what cannot be measured is told in one line."""

from __future__ import annotations

import socket
import sys

import pytest

from penstock.cli.bench import command_line
from penstock.cli.progress import bar

from .conftest import Invoke


def refused_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ftp://x"], "'ftp://x' is not an http:// or https:// URL"),
        (["http://x:99999"], "is not a URL"),
        (["http://x", "--output", "none"], "'none' is not N, uniform:LOW,HIGH"),
        (["http://x", "--extra", "[1]"], "is not a JSON object"),
        (["http://x", "--stopped", "0.7", "--leaving", "0.7"], "more than 1 together"),
        (["http://x", "--measure", "other"], "'other' is not one of"),
        (["http://x", "--duration-s", "nan"], "'--duration-s'"),
        (["http://x", "--duration-s", "0"], "'--duration-s'"),
    ],
)
def test_what_cannot_be_asked_is_named(invoke: Invoke, arguments: list[str], told: str) -> None:
    result = invoke("bench", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_server_that_is_not_there_is_named(invoke: Invoke) -> None:
    port = refused_port()
    result = invoke("bench", f"http://127.0.0.1:{port}")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: 127.0.0.1:{port}: ")
    assert "refused" in result.stderr.lower()


def test_a_key_is_in_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["p", "bench", "u", "--api-key", "s1", "--api-key=s2", "--seed", "3"]
    )
    assert command_line() == ["penstock", "bench", "u", "--api-key", "…", "--api-key=…",
                              "--seed", "3"]  # fmt: skip


def test_the_bar_says_how_far_it_is() -> None:
    assert bar(15, 30) == "[############............] 15/30 s"
    assert bar(40, 30).startswith("[########################] 40/30")
    assert bar(4, 0) == "4 s"
