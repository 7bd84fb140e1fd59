"""The server against requests made from its own description, thousands of them."""

from __future__ import annotations

from tests.wire.servers import Server

from .environments import Client

FUZZER = Client("fuzz.py", ("schemathesis==4.32.5",), patience_s=240)


def test_no_request_made_from_the_document_is_a_fault_of_the_server(server: Server) -> None:
    asked = {"prompt": "Once upon a time", "max_tokens": 9, "temperature": 0}
    before = server.ask("POST", "/v1/completions", asked).json["choices"]
    with server.endings() as ended:
        told = FUZZER.run(server.url, "whole")
    assert told["passed"] == told["generated"] > 2000
    assert set(ended) <= {"stop", "length", "disconnect"}
    assert server.ask("POST", "/v1/completions", asked).json["choices"] == before
