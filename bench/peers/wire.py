"""A peer's side of the pipe: one JSON object a line in, one out. Needs the standard library only.

`{"op": "decode", "steps": 18}` calls `decode(steps=18)` of the served object; what that returns is
the answer. Whatever a library prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys


def serve(served: object) -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        answer = getattr(served, asked.pop("op"))(**asked)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
