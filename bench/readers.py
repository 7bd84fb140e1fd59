"""Streaming clients over raw sockets, cheap enough not to be what is measured."""

from __future__ import annotations

import json
import selectors
import socket
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delivered:
    """What `streams` readers got: events between the first and the last byte, over `wall_s`."""

    tokens: int
    wall_s: float
    client_cpu_s: float


def request(host: str, max_tokens: int, key: str = "") -> bytes:
    body = json.dumps(
        {
            "prompt": "Once upon a time",
            "max_tokens": max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
    ).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"authorization: Bearer {key}\r\n\r\n"
    )
    return head.encode() + body


def read_streams(
    host: str, port: int, *, streams: int, max_tokens: int, key: str = ""
) -> Delivered:
    """Run `streams` completions at once and read each to its end."""
    selector = selectors.DefaultSelector()
    sockets = [socket.create_connection((host, port)) for _ in range(streams)]
    for each in sockets:
        selector.register(each, selectors.EVENT_READ)
    started, cpu = time.perf_counter(), time.process_time()
    for each in sockets:
        each.sendall(request(host, max_tokens, key))
    tokens = _drain(selector)
    wall_s = time.perf_counter() - started
    return Delivered(tokens, wall_s, time.process_time() - cpu)


def _drain(selector: selectors.BaseSelector) -> int:
    tokens = 0
    while selector.get_map():
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            data = key.fileobj.recv(1 << 16)
            tokens += data.count(b'"finish_reason":null')
            if not data:
                selector.unregister(key.fileobj)
                key.fileobj.close()
    return tokens
