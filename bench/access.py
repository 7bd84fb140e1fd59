"""What keys and quotas cost a token, and what a refusal costs: `python bench/access.py`.

Two servers do the same work in turns, one without keys and one whose key has every kind of limit,
so that each token is counted twice. CPU is that of the server's process, model and all.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from delivered import cpu_s, server
from readers import read_streams, request

from penstock.access.keys import Key, digest_of, new_secret, write_keys

MANY = 10**9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=400, help="tokens a stream")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--refusals", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        secret, keys = new_secret(), Path(folder) / "keys.json"
        write_keys(keys, [_limited(secret)])
        _tokens(options, secret, keys)
        _refusals(options.refusals, secret, keys)


def _limited(secret: str) -> Key:
    return Key(
        name="bench",
        digest=digest_of(secret),
        streams=1000,
        requests_per_minute=MANY,
        tokens_per_minute=MANY,
        tokens_per_day=MANY,
    )


def _tokens(options: argparse.Namespace, secret: str, keys: Path) -> None:
    slots = options.streams
    with server("", 1, slots) as open_to_all, server("", 1, slots, f"--keys={keys}") as locked:
        found: list[tuple[float, float]] = []
        for number in range(options.rounds + 1):
            pair = [_cpu_us(*each, options, secret) for each in (open_to_all, locked)]
            if number:  # the first is for warming up
                found.append((pair[0], pair[1]))
    without, with_keys = (median(column) for column in zip(*found, strict=True))
    more = median(locked - free for free, locked in found)
    print(f"{options.streams} streams of {options.tokens} tokens, medians of {options.rounds}")
    print(f"server CPU a token  without keys {without:.0f} us  with {with_keys:.0f} us")
    print(f"the difference of each pair {more:+.1f} us")


def _cpu_us(
    process: subprocess.Popen[str], port: int, options: argparse.Namespace, secret: str
) -> float:
    before = cpu_s(process.pid)
    size = {"streams": options.streams, "max_tokens": options.tokens}
    read_streams("127.0.0.1", port, key=secret, **size)
    made = options.streams * options.tokens
    return (cpu_s(process.pid) - before) / made * 1e6


def _refusals(count: int, secret: str, keys: Path) -> None:
    with server("", 1, 1, f"--keys={keys}", "--queue=0", "--stall-deadline-s=600") as held:
        process, port = held
        with _holding(port, secret):
            for status, shown in ((401, "none"), (429, secret)):
                spent_us = _refuse(process, port, count, status, shown)
                print(f"server CPU a refusal with {status}  {spent_us:.0f} us")


@contextmanager
def _holding(port: int, secret: str) -> Iterator[None]:
    """Somebody has the only slot and stops reading."""
    connection = HTTPConnection("127.0.0.1", port)
    connection.connect()
    connection.sock.sendall(request("127.0.0.1", 1000, secret))
    connection.sock.recv(1)
    try:
        yield
    finally:
        connection.close()


def _refuse(
    process: subprocess.Popen[str], port: int, count: int, status: int, secret: str
) -> float:
    connection = HTTPConnection("127.0.0.1", port)
    headers = {"authorization": f"Bearer {secret}"}
    before = cpu_s(process.pid)
    for _ in range(count):
        connection.request("POST", "/v1/completions", b'{"prompt":"x"}', headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status, answer.status
    connection.close()
    return (cpu_s(process.pid) - before) / count * 1e6


if __name__ == "__main__":
    main()
