"""The Dockerfile, as far as it can be tried without Docker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.wire.servers import Server

from .manifests import DOCKERFILE, IMAGE_ENV, ROOT


def test_what_the_image_copies_is_there_and_nothing_else_is_sent() -> None:
    ignored = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] != "#"
    ]
    sent = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for name in line.split()[:-1]
    }
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)
    assert ignored[0] == "*"
    # Everything that the build reads beside the package.
    told = (ROOT / "pyproject.toml").read_text()
    for name in re.findall(r'^(?:readme = |license-files = \[)"([^"]+)"', told, re.MULTILINE):
        assert any(fnmatch(name, each) for each in copied), name


def test_both_images_are_pinned_and_have_what_roles_need() -> None:
    installs = re.findall(r"pip install '\.\[([^]]*)\]'", DOCKERFILE)
    assert installs == ["redis,otel", "redis,otel,cuda"]
    assert IMAGE_ENV["PIP_CONSTRAINT"] == "/source/constraints.txt"
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert {each for told in installs for each in told.split(",")} <= set(extras)
    assert re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)[-2:] == ["cuda", "cpu"]


@pytest.mark.wire
def test_the_health_check_says_whether_a_server_is_ready(tmp_path: Path) -> None:
    found = re.search(r"HEALTHCHECK .* CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found
    _, *command = json.loads(found[1])
    server = Server(tmp_path / "log")

    def healthy() -> bool:
        environ = os.environ | {"PENSTOCK_PORT": str(server.port)}
        done = subprocess.run(
            [sys.executable, *command], env=environ, capture_output=True, check=False
        )
        return done.returncode == 0

    try:
        assert healthy()
    finally:
        server.stop()
    assert not healthy()
