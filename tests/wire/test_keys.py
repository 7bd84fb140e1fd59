"""API keys on a real server: raw paths, real clients, a file that changes, ports of their own."""

from __future__ import annotations

import socket
from base64 import urlsafe_b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from openai import OpenAI

from penstock.access.keys import Key, digest_of, write_keys
from penstock.client import Client, ServerError
from penstock.client.socket_source import JobSocket
from penstock.errors import INVALID_KEY

from .asked import LONG_BODY, STORY
from .raw import HANDSHAKE, Raw, post
from .servers import Server, run_serve, wait_until

pytestmark = pytest.mark.heavy

Start = Callable[..., Server]

KEY, ADMIN = "sk-penstock-of-a-test", "sk-penstock-of-an-admin"
SHORT: dict[str, Any] = {"model": "default", "messages": STORY, "max_tokens": 3}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    admin = Key(name="root", digest=digest_of(ADMIN), admin=True)
    write_keys(path, [Key(name="ann", digest=digest_of(KEY)), admin])
    return path


def status_of(server: Server, request: bytes) -> int:
    with Raw(server) as raw:
        raw.send(request)
        return int(raw.read_until(b"\r\n\r\n").split()[1])


PATHS = [
    b"/v1/models",
    b"/v1%2fmodels",
    b"/%76%31/models",
    b"//v1/models",
    b"/v1//models",
    b"/V1/MODELS",
    b"/v1/models/",
    b"/./v1/models",
    b"/health/../v1/models",
    b"/health/%2e%2e/v1/models",
    b"/health%2f..%2fv1/models",
    b"/static/..%2fv1/models",
    b"/static/%2e%2e/v1/models",
    b"/static%5c..%5cv1/models",
    b"/v1/models?/health",
    b"/v1/models%3f/health",
    b"/v1/models;/health",
    b"/v1/models%00",
    b"http://x/v1/models",
    b"http://x/health",
    b"/metrics",
    b"/METRICS",
    b"/%6detrics",
    b"/v1/jobs",
    b"/chat/stream?prompt=x",
    b"/HEALTH",
    b"/health/",
    b"//health",
]


def test_every_raw_path_is_shut_and_the_open_ones_are_open(start_server: Start, keys: Path) -> None:
    server = start_server(f"--keys={keys}")
    for path in PATHS:
        for method in (b"GET", b"POST", b"HEAD"):
            head = b"%b %b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % (method, path)
            assert status_of(server, head) == 401, (method, path)
    for opened in ("/health", "/ready", "/%68ealth"):
        assert server.ask("GET", opened).status == 200
    assert server.ask("GET", "/v1/models", Authorization=f"Bearer {KEY}").status == 200
    assert server.ask("GET", "/metrics", Authorization=f"Bearer {KEY}").status == 403
    assert server.ask("GET", "/metrics", Authorization=f"Bearer {ADMIN}").status == 200
    refused = server.ask("POST", "/v1/completions", b"x" * (1 << 20))
    assert (refused.status, refused.json["error"]["code"]) == (401, "invalid_api_key")
    assert KEY not in server.log()


def shake_hands(server: Server, *lines: str) -> bytes:
    told = "".join(f"{line}\r\n" for line in lines).encode()
    with Raw(server) as raw:
        raw.send(HANDSHAKE.removesuffix(b"\r\n") + told + b"\r\n")
        return raw.read_until(b"\r\n\r\n").lower()


def test_a_browsers_socket_has_its_key_in_a_subprotocol_that_is_not_answered(
    start_server: Start, keys: Path
) -> None:
    server = start_server(f"--keys={keys}")
    coded = urlsafe_b64encode(KEY.encode()).decode().rstrip("=")
    offer = f"Sec-WebSocket-Protocol: penstock.v1, penstock.key.{coded}"
    accepted = shake_hands(server, offer)
    assert accepted.startswith(b"http/1.1 101")
    assert b"sec-websocket-protocol: penstock.v1\r\n" in accepted
    assert coded.lower().encode() not in accepted
    assert shake_hands(server, f"Authorization: Bearer {KEY}").startswith(b"http/1.1 101")
    assert shake_hands(server).startswith(b"http/1.1 401")
    assert shake_hands(server, offer + "x").startswith(b"http/1.1 401")


def test_openai_is_let_in_by_its_key_until_it_is_revoked(start_server: Start, keys: Path) -> None:
    server = start_server(f"--keys={keys}")
    base = f"{server.url}/v1"
    with OpenAI(base_url=base, api_key=KEY, max_retries=0) as client:
        assert client.chat.completions.create(**SHORT).usage
        write_keys(keys, [])
        with pytest.raises(openai.AuthenticationError) as caught:
            client.chat.completions.create(**SHORT)
    assert (caught.value.code, caught.value.type) == ("invalid_api_key", "authentication_error")


@pytest.mark.parametrize("wire", ["stream", "socket"])
async def test_our_client_shows_its_key(start_server: Start, keys: Path, wire: str) -> None:
    server = start_server(f"--keys={keys}")
    asked: dict[str, Any] = {"prompt": "Once", "max_tokens": 3, "ignore_eos": True}
    async with (
        Client(server.url, api_key=KEY) as client,
        getattr(client, wire)(**asked) as tokens,
    ):
        assert len([token async for token in tokens]) == 3
    source = JobSocket(httpx.URL(f"{server.url}/v1/ws"), [], "job_of_ann")
    with pytest.raises(ServerError) as caught:
        await source.take(0)
    assert caught.value.kind is INVALID_KEY


def test_metrics_can_have_a_port_of_their_own(start_server: Start, keys: Path) -> None:
    port = free_port()
    server = start_server(f"--keys={keys}", f"--metrics-port={port}")
    assert server.ask("GET", "/metrics", Authorization=f"Bearer {ADMIN}").status == 404
    server.port = port
    assert server.metrics()["penstock_live"] == 0
    assert server.ask("HEAD", "/metrics").status == 200
    assert server.ask("POST", "/metrics").status == 405
    for path in ("/", "/v1/models", "/health", "//metrics"):
        assert server.ask("GET", path).status == 404
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_that_others_reach_needs_keys_or_a_word(host: str) -> None:
    code, told = run_serve(f"--host={host}", "--port=0")
    assert code == 1
    assert "Error: others can reach" in told
    assert "penstock keys add" in told
    assert "--allow-anonymous" in told


def test_the_word_is_enough_and_warns(start_server: Start, keys: Path) -> None:
    open_to_all = start_server("--host=0.0.0.0", "--allow-anonymous")
    assert "warning: others can reach 0.0.0.0" in open_to_all.log()
    assert open_to_all.ask("GET", "/v1/models").status == 200
    locked = start_server("--host=0.0.0.0", f"--keys={keys}")
    assert "warning" not in locked.log()
    assert "-H 'Authorization: Bearer KEY'" in locked.log()


def test_a_key_file_that_cannot_be_used_is_told_before_a_model_is_loaded(tmp_path: Path) -> None:
    code, told = run_serve("--port=0", f"--keys={tmp_path / 'none.json'}")
    assert (code, "loading" in told) == (1, False)
    assert "does not exist; make it with `penstock keys add" in told


def test_a_full_server_is_an_error_to_one_client_and_a_wait_to_another(
    start_server: Start,
) -> None:
    server = start_server("--slots=1", "--queue=0")
    refused = "penstock_requests_refused_total:overloaded"
    with Raw(server, small=True) as held, ThreadPoolExecutor(1) as pool:
        held.send(post("/v1/completions", LONG_BODY | {"stream": True}))
        server.wait_active(1)
        with InferenceClient(server.url) as hub, pytest.raises(HfHubHTTPError) as caught:
            hub.chat_completion(STORY, max_tokens=3)
        assert caught.value.response.status_code == 429
        with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=9) as client:
            asked = pool.submit(lambda: client.chat.completions.create(**SHORT))
            wait_until(lambda: server.metrics()[refused] == 2, "second refusal")
            held.socket.close()
            assert asked.result().usage
