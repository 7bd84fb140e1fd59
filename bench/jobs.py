"""Many short jobs: no server's memory may grow with them, and nothing may be left.

    python bench/jobs.py [--jobs 10000] [--clients 8] [--store redis [--fsync always]]

Each is submitted, read to its end, and forgotten a second later; with `--store redis`, by an edge
and a worker over a Redis of their own. Exits with 1 where the memory of a server grew by more than
`--grown-mib` between the first tenth and the end, where Redis holds more than after its first job,
or where a gauge did not come back to 0.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path

from redis_server import Redis, redis

BODY = json.dumps({"prompt": "Once", "max_tokens": 4, "temperature": 0, "ignore_eos": True})
GAUGES = ("live", "active", "waiting", "jobs_kept", "jobs_running", "job_readers", "job_log_bytes")
KEEP_S = 1.0
EXPIRED_S = 61.0
"""After that, Redis has dropped what was told to nobody."""
REDIS_MIB = 1.0
"""What Redis may keep: its buffers for connections, its table of scripts."""


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "penstock", "serve", "--port=0", f"--job-keep-s={KEEP_S}"]
    command += options
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    sink = server
    try:
        lines = (re.search(r" on http://[\d.]+:(\d+)$", line) for line in server.stderr)
        port = next(int(found[1]) for found in lines if found)
        # Its log is read by nobody from here on, and must not fill a pipe.
        sink = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
        wait_ready(port)
        yield server, port
    finally:
        server.terminate()
        server.wait()
        sink.wait()


def wait_ready(port: int) -> None:
    status = 0
    while status != 200:
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/ready")
        status = connection.getresponse().status
        connection.close()


def one_job(connection: HTTPConnection) -> None:
    connection.request("POST", "/v1/jobs", BODY)
    made = json.loads(connection.getresponse().read())
    connection.request("GET", made["stream_url"])
    assert b"event: job_complete\n" in connection.getresponse().read()


def run_jobs(port: int, count: int) -> None:
    connection = HTTPConnection("127.0.0.1", port)
    for _ in range(count):
        one_job(connection)
    connection.close()


def resident_mib(server: subprocess.Popen[str]) -> float:
    status = Path(f"/proc/{server.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


def gauges(port: int) -> dict[str, float]:
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    found = dict(re.findall(r"^penstock_(\w+) ([\d.e+]+)$", page, re.MULTILINE))
    return {name: float(found[name]) for name in GAUGES if name in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--store", choices=["memory", "redis"], default="memory")
    parser.add_argument("--fsync", choices=["always", "everysec", "no"], default="always")
    parser.add_argument("--grown-mib", type=float, default=8.0)
    asked = parser.parse_args()
    with ExitStack() as stack, ThreadPoolExecutor(asked.clients) as clients:
        shared = stack.enter_context(redis(asked.fsync)) if asked.store == "redis" else None
        servers = {name: stack.enter_context(serving(*options)) for name, options in roles(shared)}
        port = servers["edge" if shared else "server"][1]
        run_jobs(port, 1)
        at_first = redis_mib(shared)
        tenth = asked.jobs // 10 // asked.clients
        memory: list[list[float]] = []
        print("jobs     jobs/s  RSS MiB of", *servers, *(["Redis"] if shared else []))
        for done in range(1, 11):
            started = time.perf_counter()
            list(clients.map(lambda _: run_jobs(port, tenth), range(asked.clients)))
            rate = tenth * asked.clients / (time.perf_counter() - started)
            memory.append([resident_mib(server) for server, _ in servers.values()])
            now = [*memory[-1], *([redis_mib(shared)] if shared else [])]
            told = "  ".join(f"{each:.1f}" for each in now)
            print(f"{done * tenth * asked.clients:<8} {rate:<7.0f} {told}", flush=True)
        time.sleep(2 * KEEP_S + (EXPIRED_S if shared else 0))
        left = {name: gauges(each) for name, (_, each) in servers.items()}
        kept = redis_mib(shared) - at_first
        if shared:
            print("keys left:", *re.findall(r"\{penstock\}:[^\s]+", shared.ask("KEYS", "*")))
    grown = max(last - first for first, last in zip(memory[0], memory[-1], strict=True))
    print(f"grew by {grown:.1f} MiB after the first tenth, Redis by {kept:.2f}; left: {left}")
    anything = any(any(each.values()) for each in left.values())
    sys.exit(grown > asked.grown_mib or kept > REDIS_MIB or anything)


def roles(shared: Redis | None) -> list[tuple[str, tuple[str, ...]]]:
    """Which servers there are, and what each is told."""
    if shared is None:
        return [("server", ())]
    return [(role, (f"--store={shared.url}", f"--role={role}")) for role in ("worker", "edge")]


def redis_mib(shared: Redis | None) -> float:
    return shared.number("memory", "used_memory") / 2**20 if shared else 0.0


if __name__ == "__main__":
    main()
