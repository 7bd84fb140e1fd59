"""Traces: nothing of them without their configuration, right spans with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from penstock.accounting import untraced
from penstock.tracing import TracingError, load_trace

OTLP = "OTEL_EXPORTER_OTLP_ENDPOINT"
ENDPOINT = {OTLP: "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "x"},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"},
        ENDPOINT | {"OTEL_SDK_DISABLED": "True"},
    ],
)
def test_without_configuration_nothing_is_traced(environ: dict[str, str]) -> None:
    assert load_trace(environ) is untraced


def test_an_exporter_that_is_not_known_is_refused() -> None:
    with pytest.raises(TracingError, match="must be otlp, console or none"):
        load_trace({"OTEL_TRACES_EXPORTER": "zipkin"})


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "penstock.otel", None)
    with pytest.raises(TracingError, match=r"pip install 'penstock\[otel\]'"):
        load_trace(ENDPOINT)


def test_nothing_of_opentelemetry_is_imported_where_no_traces_are_wanted() -> None:
    program = (
        "import sys, penstock.cli.main, penstock.asgi, penstock.tracing as t;"
        "t.load_trace({});"
        "print([name for name in sys.modules if 'opentelemetry' in name])"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    told = subprocess.check_output([sys.executable, "-c", program], env=environ, text=True)
    assert told == "[]\n"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """An OTLP endpoint on the loopback, and what was posted to it."""
    posted: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", posted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


PROGRAM = """
import os, trio
from penstock.ending import Asked, Ending
from penstock.events import Figures
from penstock.origin import Origin
from penstock.requests import Prompt, Sampling
from penstock.tracing import load_trace

async def main():
    ending = Ending(
        reason="stop", code=None, origin=Origin(), asked=Asked("m"),
        prompt=Prompt((1,), 2, Sampling(), 3, False), completion_tokens=1, undelivered_tokens=0,
        blocked_s=0.0, seated_at_s=None, first_at_s=None, ended_at_s=trio.current_time(),
        figures=Figures(None, None, 0, None),
    )
    load_trace(os.environ)(ending)

trio.run(main)
"""


def test_spans_arrive_at_an_otlp_endpoint_when_the_process_exits(
    collector: tuple[str, list[tuple[str, bytes]]],
) -> None:
    url, posted = collector
    subprocess.run([sys.executable, "-c", PROGRAM], env=os.environ | {OTLP: url}, check=True)
    ((path, body),) = posted
    assert path == "/v1/traces"
    assert b"text_completion m" in body
    assert b"penstock" in body
