"""Whether onnxruntime's providers work here, and what they lack."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROBE = """
import sys
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[2], providers=[sys.argv[1]])
sys.exit(sys.argv[1] not in session.get_providers())
"""
PATIENCE_S = 60.0


def why_not(provider: str, graph: Path) -> str | None:
    """Why no session gets `provider`; None where one does.

    Tried in another process: onnxruntime falls back to the CPU without an error, and what it
    lacked stands only in what its library writes to the terminal.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE, provider, str(graph)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it did not open within {PATIENCE_S:.0f} s"
    return None if done.returncode == 0 else reason_in(done.stderr)


def reason_in(said: str) -> str:
    if found := re.search(r"error: (\S+): cannot open shared object file", said):
        return f"{found[1]} is missing"
    if found := re.search(r"CUDA failure \d+: ([^;]+)", said):
        return found[1].strip()
    return "its libraries or its device are missing"
