"""Many short jobs: the server's memory must not grow with them, and nothing may be left.

    python bench/jobs.py [--jobs 10000] [--clients 8]

Each is submitted, read to its end, and forgotten a second later. Exits with 1 where memory grew by
more than `--grown-mib` between the first tenth and the end, or a gauge did not come back to 0.
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
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

BODY = json.dumps({"prompt": "Once", "max_tokens": 4, "temperature": 0, "ignore_eos": True})
GAUGES = ("live", "active", "waiting", "jobs_kept", "jobs_running", "job_readers", "job_log_bytes")
KEEP_S = 1.0


@contextmanager
def serving() -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "penstock", "serve", "--port=0", f"--job-keep-s={KEEP_S}"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        while not (found := re.search(r" on http://[\d.]+:(\d+)$", server.stderr.readline())):
            pass
        # Its log is read by nobody from here on, and must not fill a pipe.
        with subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL) as sink:
            yield server, int(found[1])
            server.terminate()
            sink.wait()
    finally:
        server.terminate()
        server.wait()


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
    return {name: float(found[name]) for name in GAUGES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--grown-mib", type=float, default=8.0)
    asked = parser.parse_args()
    with serving() as (server, port), ThreadPoolExecutor(asked.clients) as clients:
        tenth = asked.jobs // 10 // asked.clients
        memory = []
        print("jobs     RSS MiB   jobs/s")
        for done in range(1, 11):
            started = time.perf_counter()
            list(clients.map(lambda _: run_jobs(port, tenth), range(asked.clients)))
            rate = tenth * asked.clients / (time.perf_counter() - started)
            memory.append(resident_mib(server))
            print(f"{done * tenth * asked.clients:<8} {memory[-1]:<9.1f} {rate:.0f}")
        time.sleep(2 * KEEP_S)
        left = gauges(port)
    print(f"grew by {memory[-1] - memory[0]:.1f} MiB after the first tenth; left: {left}")
    sys.exit(memory[-1] - memory[0] > asked.grown_mib or any(left.values()))


if __name__ == "__main__":
    main()
