"""What every driver does: run the case that it is told, and say what came of it as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

QUESTION = "Tell me a story about a dog."
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
PROMPT = "Once upon a time"
TOKENS = 30
MANY = 900


def main(*cases: Callable[[str], object]) -> None:
    url, name = sys.argv[1:]
    told = {case.__name__: case for case in cases}[name](url)
    print(json.dumps(told), flush=True)  # noqa: T201
    if name == "aborted":
        os._exit(0)  # without a goodbye, where the client has none of its own
