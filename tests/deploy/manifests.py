"""The files of deploy/, and what they tell penstock."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from penstock.settings import Settings, build, read_environ

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
FILES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
OBJECTS: list[Any] = [
    each for path in FILES for each in yaml.safe_load_all(path.read_text()) if "metadata" in each
]
SETTINGS_MAP = next(each["data"] for each in OBJECTS if each["kind"] == "ConfigMap")
OURS = ("edge", "worker")

IMAGE_ENV = dict(
    pair.split("=", 1)
    for line in re.findall(r"^ENV (.*)$", DOCKERFILE, re.MULTILINE)
    for pair in shlex.split(line)
)
# What `docker run` would know of Kubernetes' secrets.
SECRET = "redis://:secret@penstock-redis:6379/0"


def kind(name: str) -> list[Any]:
    return [each for each in OBJECTS if each["kind"] == name]


def pod_of(role: str) -> Any:  # noqa: ANN401  # YAML
    deployments = kind("Deployment")
    found = next(each for each in deployments if each["metadata"]["name"] == f"penstock-{role}")
    return found["spec"]["template"]["spec"]


def container_of(role: str) -> Any:  # noqa: ANN401  # YAML
    (container,) = pod_of(role)["containers"]
    return container


def environ_in_kubernetes(role: str) -> dict[str, str]:
    own = {each["name"]: each.get("value", SECRET) for each in container_of(role)["env"]}
    return {**IMAGE_ENV, **SETTINGS_MAP, **own}


def told_everywhere() -> Iterator[tuple[str, Mapping[str, str]]]:
    yield "image", IMAGE_ENV
    for name, service in COMPOSE["services"].items():
        if "environment" in service:
            yield f"compose {name}", IMAGE_ENV | service["environment"]
    for role in OURS:
        yield f"kubernetes {role}", environ_in_kubernetes(role)


def settings_of(environ: Mapping[str, str]) -> Settings:
    return build(read_environ(environ))
