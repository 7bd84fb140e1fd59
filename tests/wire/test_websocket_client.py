"""trio-websocket: the handshake, one generation after another, credits, cancel."""

from __future__ import annotations

import pytest
import trio
from trio_websocket import ConnectionRejected

from .asked import LONG_BODY, PROMPT
from .servers import Server, until
from .sockets import Peer, abort, connect

SHORT = {"prompt": PROMPT, "max_tokens": 5, "temperature": 0, "ignore_eos": True}


async def wait_parked(server: Server) -> None:
    await until(lambda: server.gauge("parked") == 1, "parked sequence")


async def test_offered_subprotocol_is_echoed(server: Server) -> None:
    async with connect(server, ["other", "penstock.v1"]) as peer:
        assert peer.socket.subprotocol == "penstock.v1"


async def test_no_offer_is_accepted_without_one(server: Server) -> None:
    async with connect(server) as peer:
        assert peer.socket.subprotocol is None


@pytest.mark.parametrize(
    ("path", "offered", "status"),
    [("/v1/ws", ["penstock.v2", "mqtt"], 400), ("/v1/elsewhere", None, 404)],
)
async def test_other_handshakes_are_refused(
    server: Server, path: str, offered: list[str] | None, status: int
) -> None:
    with pytest.RaisesGroup(ConnectionRejected, flatten_subgroups=True) as caught:
        async with connect(server, offered, path=path):
            pass
    rejected = caught.value.exceptions[0]
    assert isinstance(rejected, ConnectionRejected)
    assert rejected.status_code == status
    assert rejected.body.startswith(b'{"error":{"message":"')


async def test_generation_is_numbered_from_start_to_complete(server: Server) -> None:
    async with connect(server) as peer:
        started = await peer.start(**SHORT)
        assert (started["model"], started["after"]) == ("default", 0)
        assert await peer.hear_tokens(5) == [1, 2, 3, 4, 5]
        assert await peer.hear() == {
            "type": "complete",
            "seq": 6,
            "job_id": started["job_id"],
            "finish_reason": "length",
            "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10},
        }


async def test_text_equals_that_of_http(server: Server) -> None:
    asked = {"prompt": PROMPT, "max_tokens": 60, "temperature": 0}
    pieces = []
    async with connect(server) as peer:
        await peer.start(ignore_eos=False, **asked)
        while (message := await peer.hear())["type"] == "token":
            pieces.append(message["text"])
    whole = server.ask("POST", "/v1/completions", asked).json
    assert "".join(pieces) == whole["choices"][0]["text"]
    assert message["usage"] == whole["usage"]
    assert message["finish_reason"] == whole["choices"][0]["finish_reason"]


async def test_socket_starts_again_after_each_terminal(server: Server) -> None:
    async with connect(server) as peer:
        for _ in range(5):
            await peer.start(**SHORT)
            assert (await peer.hear_terminal())["type"] == "complete"
        await peer.start()
        await peer.tell("cancel")
        assert (await peer.hear_terminal())["type"] == "cancelled"
        await peer.start(**SHORT)
        assert await peer.hear_tokens(5) == [1, 2, 3, 4, 5]


async def test_credits_deliver_exactly_as_many_tokens(server: Server) -> None:
    async with connect(server) as peer:
        await peer.start(credits=4, max_tokens=20)
        assert await peer.hear_tokens(4) == [1, 2, 3, 4]
        await wait_parked(server)
        assert await peer.heard_all()
        await peer.tell("pull", n=3)
        assert await peer.hear_tokens(3) == [5, 6, 7]
        await wait_parked(server)
        assert await peer.heard_all()
        await peer.tell("pull", n=20)
        assert await peer.hear_tokens(13) == list(range(8, 21))
        assert (await peer.hear_terminal())["type"] == "complete"


async def test_no_credit_means_no_token_and_no_more_decoding(server: Server) -> None:
    before = server.gauge("decode_rows")
    async with connect(server) as peer:
        await peer.start(credits=0)
        await wait_parked(server)
        assert await peer.heard_all()
        # One in the writer's hand, one in the decode task's, one ahead in the decoder.
        assert server.gauge("decode_rows") - before <= 3


async def test_a_parked_stream_holds_nobody_up(server: Server) -> None:
    async with connect(server) as parked, connect(server) as other:
        await parked.start(credits=2)
        await wait_parked(server)
        await other.start(**SHORT)
        assert (await other.hear_terminal())["type"] == "complete"
        assert await parked.hear_tokens(2) == [1, 2]
        assert await parked.heard_all()


@pytest.mark.parametrize("allowed", [0, 3, None])
async def test_cancel_is_answered_at_once(server: Server, allowed: int | None) -> None:
    with server.endings() as ended:
        async with connect(server) as peer:
            started = await peer.start(credits=allowed)
            await peer.hear_tokens(3 if allowed is None else allowed)
            await peer.tell("cancel")
            terminal = await peer.hear_terminal()
            assert (terminal["type"], terminal["job_id"]) == ("cancelled", started["job_id"])
            assert await peer.heard_all()
    assert ended == {"client": 1}


async def test_pull_and_cancel_are_ignored_when_nothing_runs(server: Server) -> None:
    async with connect(server) as peer:
        for _ in range(2):
            await peer.tell("pull", n=7)
            await peer.tell("cancel")
            await peer.start(**SHORT, credits=2)
            assert await peer.hear_tokens(2) == [1, 2]
            assert await peer.heard_all()
            await peer.tell("pull", n=3)
            assert (await peer.hear_terminal())["type"] == "complete"


async def test_cancel_right_behind_start_cancels(server: Server) -> None:
    with server.endings() as ended:
        async with connect(server) as peer:
            await peer.tell("start", **LONG_BODY)
            await peer.tell("cancel")
            assert (await peer.hear_terminal())["type"] in ("started", "cancelled")
            await peer.hear_terminal()
            await peer.start(**SHORT)
    assert ended["client"] == 1


async def leave_politely(peer: Peer) -> None:
    await peer.socket.aclose()


async def leave_rudely(peer: Peer) -> None:
    abort(peer.stream)


@pytest.mark.parametrize("leave", [leave_politely, leave_rudely])
@pytest.mark.parametrize("allowed", [0, None])
async def test_leaving_cancels(server: Server, leave: object, allowed: int | None) -> None:
    assert callable(leave)
    with server.endings() as ended:
        async with connect(server) as peer:
            await peer.start(credits=allowed)
            await leave(peer)
            with trio.fail_after(5):
                await peer.ended.wait()
    assert ended == {"disconnect": 1}
