"""TLS with HTTP/2 by ALPN, UNIX sockets, and curl over either."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGTERM

import httpx
import pytest
import trustme

from penstock.client import Client

from .asked import LONG_BODY, PROMPT
from .raw import post
from .servers import PATIENCE_S, Server, run_mute, run_serve, wait_until

PATH = "/v1/completions"
SHORT = {"prompt": PROMPT, "max_tokens": 5, "temperature": 0, "ignore_eos": True}
Start = Callable[..., Server]

pytestmark = pytest.mark.heavy

needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl here")


class Secure:
    """A server with a certificate for 127.0.0.1, and a client's context that trusts it."""

    def __init__(self, folder: Path, start: Start) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        self.authority, self.chain = folder / "ca.pem", folder / "chain.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        issued.private_key_and_cert_chain_pem.write_to_path(str(self.chain))
        self.context = ssl.create_default_context(cafile=str(self.authority))
        self.server = start(f"--certfile={self.chain}")

    def metrics(self) -> str:
        return httpx.get(f"{self.server.url}/metrics", verify=self.context).text

    def cancelled(self) -> int:
        found = re.search(r'cancelled_total\{reason="disconnect"\} (\d+)', self.metrics())
        return int(found[1]) if found else 0

    def connect(self) -> ssl.SSLSocket:
        raw = socket.create_connection((self.server.host, self.server.port), PATIENCE_S)
        return self.context.wrap_socket(raw, server_hostname="127.0.0.1")


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("tls")
    started: list[Server] = []

    def start(*options: str) -> Server:
        started.append(Server(folder / "log", *options))
        return started[0]

    secure = Secure(folder, start)
    yield secure
    assert started[0].stop() == 0
    assert "Traceback" not in started[0].log()


@pytest.mark.parametrize(("http2", "version"), [(True, "HTTP/2"), (False, "HTTP/1.1")])
def test_what_is_spoken_is_agreed_by_alpn(secure: Secure, *, http2: bool, version: str) -> None:
    with httpx.Client(base_url=secure.server.url, verify=secure.context, http2=http2) as client:
        answer = client.post(PATH, json=SHORT)
        assert (answer.status_code, answer.http_version) == (200, version)
        with client.stream("POST", PATH, json={**SHORT, "stream": True}) as stream:
            assert "".join(stream.iter_text()).endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("http2", [True, False])
def test_leaving_amid_a_stream_cancels(secure: Secure, *, http2: bool) -> None:
    before = secure.cancelled()
    with (
        httpx.Client(base_url=secure.server.url, verify=secure.context, http2=http2) as client,
        client.stream("POST", PATH, json={**LONG_BODY, "stream": True}) as stream,
    ):
        next(stream.iter_raw())
    wait_until(lambda: secure.cancelled() == before + 1, "cancellation")


@pytest.mark.parametrize("wire", ["stream", "socket"])
async def test_our_client_over_tls(
    secure: Secure, wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.authority))
    async with Client(secure.server.url) as client, getattr(client, wire)(**SHORT) as tokens:
        assert len([token async for token in tokens]) == 5


def curl(url: str, body: str, *options: str) -> str:
    """The body of the answer, and behind it the version of HTTP."""
    command = ["curl", "-sSN", "-w", "%{http_version}", "--data-binary", "@-", *options, url]
    done = subprocess.run(command, input=body, capture_output=True, check=True, text=True)
    return done.stdout


@needs_curl
@pytest.mark.parametrize("option", ["--http2", "--http1.1"])
def test_curl_over_tls(secure: Secure, option: str) -> None:
    trusted = ["--cacert", str(secure.authority)]
    told = curl(f"{secure.server.url}{PATH}", json.dumps(SHORT), option, *trusted)
    assert told.endswith("2" if option == "--http2" else "1.1")
    assert '"finish_reason":"length"' in told


@needs_curl
def test_curl_with_prior_knowledge(server: Server) -> None:
    body = json.dumps({**SHORT, "stream": True, "user": "x" * 500_000})
    told = curl(f"{server.url}{PATH}", body, "--http2-prior-knowledge")
    assert told.endswith("data: [DONE]\n\n2")


def test_plain_bytes_on_a_tls_port_hurt_nobody(secure: Secure) -> None:
    with socket.create_connection((secure.server.host, secure.server.port), PATIENCE_S) as raw:
        raw.sendall(post(PATH, SHORT))
        while raw.recv(1000):
            pass
    assert "penstock_live" in secure.metrics()


def test_handshake_that_never_ends_is_cut(tmp_path: Path, start_server: Start) -> None:
    def start(*options: str) -> Server:
        return start_server("--head-deadline-s=0.3", *options)

    secure = Secure(tmp_path, start)
    with socket.create_connection((secure.server.host, secure.server.port), PATIENCE_S) as raw:
        raw.sendall(b"\x16\x03\x01")
        assert raw.recv(1000) == b""


def test_error_is_read_before_the_connection_ends(secure: Secure) -> None:
    with secure.connect() as peer:
        peer.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n")
        assert peer.recv(1000).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--certfile=nowhere.pem"], "nowhere.pem"),
        (["--keyfile=nowhere.pem"], "--certfile"),
        ([f"--certfile={__file__}"], Path(__file__).name),
    ],
)
def test_certificate_that_cannot_be_used_is_one_clear_line(options: list[str], named: str) -> None:
    code, said = run_serve("--port=0", *options)
    assert code == 1
    assert said.count("\n") == 1
    assert named in said


def test_unix_socket(tmp_path: Path, start_server: Start) -> None:
    path = tmp_path / "penstock.sock"
    for _ in range(2):
        server = start_server(f"--uds={path}")
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://x") as client:
            assert client.post(PATH, json=SHORT).status_code == 200
        server.process.kill()
        server.wait()
    assert path.exists()
    last = start_server(f"--uds={path}")
    code, said = run_serve(f"--uds={path}")
    assert code == 1
    assert f"cannot listen on {path}" in said
    last.signal(SIGTERM)
    assert last.wait() == 0
    assert not path.exists()


def test_a_server_that_cannot_say_anything_serves(tmp_path: Path) -> None:
    path = tmp_path / "penstock.sock"
    with run_mute(path):
        wait_until(lambda: _listens(path), "server", patience_s=30)
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://x") as client:
            assert client.post(PATH, json=SHORT).status_code == 200


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as peer:
        return peer.connect_ex(str(path)) == 0
