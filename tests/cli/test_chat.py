"""`penstock chat` on a real terminal, and the other commands that ask a server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pexpect
import pytest

from tests.wire.servers import Server, wait_until

from .conftest import Invoke

pytestmark = [pytest.mark.wire, pytest.mark.heavy]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("chat") / "log")
    try:
        yield started
    finally:
        started.stop()


@contextmanager
def chat(server: Server, *options: str) -> Iterator[pexpect.spawn]:
    command = ["-W", "error", "-m", "penstock", "chat", server.url, *options]
    terminal = pexpect.spawn(sys.executable, command, timeout=20, encoding="utf-8")
    try:
        terminal.expect_exact("> ")
        yield terminal
    finally:
        terminal.close(force=True)


def left(terminal: pexpect.spawn) -> int | None:
    terminal.expect(pexpect.EOF)
    terminal.wait()
    status: int | None = terminal.exitstatus
    return status


def test_an_answer_streams_and_the_prompt_comes_back(server: Server) -> None:
    with chat(server, "--max-tokens=12", "--temperature=0") as terminal:
        for question in ("Tell me a story.", "And then?"):
            terminal.sendline(question)
            terminal.expect(r"\w+.*\[cut off at --max-tokens\]\r\n")
            terminal.expect_exact("> ")
        terminal.sendeof()
        assert left(terminal) == 0


def test_ctrl_c_stops_the_answer_then_drops_a_line_then_leaves(server: Server) -> None:
    with chat(server, "--max-tokens=400", "--temperature=0") as terminal:
        with server.endings() as ended:
            terminal.sendline("Tell me a story about a dog.")
            wait_until(lambda: server.gauge("active") == 1, "a generation")
            terminal.expect(r"dog\.\r\n.*\w+ \w+")
            terminal.sendintr()
            terminal.expect_exact("[stopped]\r\n")
            terminal.expect_exact("> ")
        assert ended == {"client": 1}
        terminal.send("half a line")
        terminal.expect_exact("half a line")
        terminal.sendintr()
        terminal.expect_exact("> ")
        terminal.sendintr()
        assert left(terminal) == 0


def test_a_refusal_is_told_and_the_conversation_goes_on(server: Server) -> None:
    with chat(server, "--max-tokens=1000000") as terminal:
        terminal.sendline("Hello")
        terminal.expect_exact("Error: ")
        terminal.expect_exact("> ")
        terminal.sendintr()
        assert left(terminal) == 0


def test_lines_from_a_pipe_are_questions(server: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "chat", server.url, "--max-tokens=3", "--temperature=0"],
        input="Hello\n\nAgain\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("[cut off at --max-tokens]\n") == 2
    assert (done.stderr, "> " in done.stdout) == ("", False)


def test_models_are_listed(server: Server, invoke: Invoke) -> None:
    assert invoke("models", server.url).stdout == "default\n"


@pytest.mark.parametrize("command", ["models", "chat"])
@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("http://127.0.0.1:1", 1, "no server at http://127.0.0.1:1 ("),
        ("ftp://somewhere", 2, "is not a URL like"),
        ("http://[", 2, "is not a URL like"),
    ],
)
def test_a_missing_server_is_told(
    invoke: Invoke, command: str, url: str, code: int, said: str
) -> None:
    result = invoke(command, url)
    assert result.exit_code == code
    assert said in result.stderr
