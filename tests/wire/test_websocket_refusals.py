"""trio-websocket: what a socket refuses, and with which code it is closed."""

from __future__ import annotations

import pytest

from .asked import PROMPT
from .servers import Server
from .sockets import connect

SHORT = {"prompt": PROMPT, "max_tokens": 3, "ignore_eos": True}
LARGE = 1 << 20


@pytest.mark.parametrize(
    "message",
    [
        "",
        "hello",
        "{",
        "[]",
        '"start"',
        "null",
        "{}",
        '{"prompt":"x"}',
        '{"type":"stop"}',
        '{"type":7}',
        '{"type":"start","prompt":5}',
        '{"type":"start","prompt":"x","credits":"many"}',
        '{"type":"pull"}',
        '{"type":"pull","n":0}',
        '{"type":"pull","n":1.5}',
        '{"type":"resume"}',
        "[" * 100_000,
    ],
    ids=lambda message: message[:40],
)
async def test_what_cannot_be_understood_closes_4400(server: Server, message: str) -> None:
    async with connect(server) as peer:
        await peer.socket.send_message(message)
        assert await peer.close_code() == 4400
        # A developer sees it in the browser's console.
        assert peer.socket.closed.reason


async def test_binary_closes_1003(server: Server) -> None:
    async with connect(server) as peer:
        await peer.socket.send_message(b'{"type":"cancel"}')
        assert await peer.close_code() == 1003


async def test_message_of_a_mebibyte_is_read(server: Server) -> None:
    async with connect(server) as peer:
        message = '{"type":"start","prompt":"%s"}'
        await peer.socket.send_message(message % ("x" * (LARGE - len(message) + 2)))
        refusal = await peer.hear()
        assert refusal["error"]["code"] == "context_length_exceeded"
        await peer.start(**SHORT)


@pytest.mark.parametrize("running", [False, True])
async def test_larger_message_closes_1009(server: Server, *, running: bool) -> None:
    with server.endings() as ended:
        async with connect(server) as peer:
            if running:
                await peer.start()
            await peer.socket.send_message("x" * (LARGE + 1))
            assert await peer.close_code() == 1009
    assert ended.total() == ended["disconnect"] == running


async def test_start_while_running_closes_4409_and_cancels(server: Server) -> None:
    with server.endings() as ended:
        async with connect(server) as peer:
            await peer.start()
            await peer.tell("start", **SHORT)
            assert await peer.close_code() == 4409
    assert ended == {"disconnect": 1}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"prompt": ""}, "prompt", "invalid_value"),
        ({"prompt": None}, "prompt", "invalid_value"),
        ({"prompt": None, "messages": []}, "messages", "invalid_value"),
        ({"max_tokens": 5000}, "max_tokens", "context_length_exceeded"),
        ({"model": "gpt-4"}, "model", "model_not_found"),
        ({"stop": [""]}, "stop", "invalid_value"),
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"credits": -1}, "credits", "invalid_value"),
    ],
    ids=str,
)
async def test_refused_start_leaves_the_socket_open(
    server: Server, fields: dict[str, object], param: str, code: str
) -> None:
    async with connect(server) as peer:
        await peer.tell("start", **{**SHORT, **fields})
        refusal = await peer.hear()
        assert refusal["type"] == "error"
        assert (refusal["error"]["param"], refusal["error"]["code"]) == (param, code)
        await peer.start(**SHORT)
        assert (await peer.hear_terminal())["type"] == "complete"


async def test_resume_is_refused_by_name(server: Server) -> None:
    async with connect(server) as peer:
        await peer.tell("resume", job_id="job_1", after=3)
        assert (await peer.hear())["type"] == "error"
        await peer.start(**SHORT)


async def test_fields_that_are_unknown_are_ignored(server: Server) -> None:
    async with connect(server) as peer:
        await peer.start(**SHORT, colour="blue", stream=True)
        assert (await peer.hear_terminal())["type"] == "complete"
