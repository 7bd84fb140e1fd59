"""schemathesis, over the server's own OpenAPI document."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from driving import main

CHECKS = "not_a_server_error,content_type_conformance"
EXAMPLES = 60


def whole(url: str) -> dict[str, int]:
    program = Path(sys.executable).with_name("st")
    options = ["--phases=coverage,fuzzing", f"--max-examples={EXAMPLES}", f"--checks={CHECKS}"]
    done = subprocess.run(
        [program, "run", f"{url}/openapi.json", "--seed=1", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    told = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert told, done.stdout
    return {"generated": int(told[1]), "passed": int(told[2])}


main(whole)
