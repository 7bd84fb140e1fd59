"""What deploy/ tells containers is what penstock knows, and its parts agree with each other."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from penstock.settings import ENV_PREFIX, Settings
from tests.jobs.conftest import require_redis
from tests.wire.servers import wait_until

from .manifests import (
    COMPOSE,
    DEPLOY,
    DOCKERFILE,
    FILES,
    IMAGE_ENV,
    OURS,
    container_of,
    environ_in_kubernetes,
    kind,
    pod_of,
    settings_of,
    told_everywhere,
)

TOLD = dict(told_everywhere())


@pytest.mark.parametrize(
    ("where", "environ"), list(told_everywhere()), ids=lambda it: it if isinstance(it, str) else ""
)
def test_containers_are_told_settings_that_there_are(
    where: str, environ: Mapping[str, str]
) -> None:
    ours = {name for name in environ if name.startswith(ENV_PREFIX)}
    assert ours
    assert ours <= {f"{ENV_PREFIX}{name.upper()}" for name in Settings.__struct_fields__}
    settings = settings_of(environ)
    assert settings.port == 8000
    if where != "image":
        assert settings.store != "memory"
        assert settings.role in where
        assert bool(settings.keys) != settings.allow_anonymous


def test_edges_and_workers_agree_where_they_must() -> None:
    kubernetes = [settings_of(environ_in_kubernetes(role)) for role in OURS]
    compose = [
        settings_of(IMAGE_ENV | COMPOSE["services"][name]["environment"])
        for name in ("edge1", "edge2", "worker1", "worker2")
    ]
    for house in (kubernetes, compose):
        for name in ("store", "lease_s", "job_window", "max_jobs", "job_log_bytes", "model"):
            assert len({getattr(each, name) for each in house}) == 1, name


@pytest.mark.parametrize("role", OURS)
def test_a_pod_may_take_as_long_as_it_drains(role: str) -> None:
    settings = settings_of(environ_in_kubernetes(role))
    stop = container_of(role).get("lifecycle", {}).get("preStop", {}).get("exec", {})
    before_s = float(stop["command"][1]) if stop else 0
    assert before_s > 0 or role == "worker", "nobody is told that it leaves before it does"
    # A second for last words and one for the process to end.
    assert pod_of(role)["terminationGracePeriodSeconds"] >= before_s + settings.drain_s + 2


@pytest.mark.parametrize("name", ["edge1", "edge2", "worker1", "worker2"])
def test_a_container_may_take_as_long_as_it_drains(name: str) -> None:
    service = COMPOSE["services"][name]
    settings = settings_of(service["environment"])
    assert float(service["stop_grace_period"].removesuffix("s")) >= settings.drain_s + 2


@pytest.mark.parametrize("role", OURS)
def test_probes_ask_what_there_is(role: str) -> None:
    container, settings = container_of(role), settings_of(environ_in_kubernetes(role))
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"http": settings.port, "metrics": settings.metrics_port}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] == "http"
        assert asked["path"] in ("/health", "/ready")
    assert container["startupProbe"]["httpGet"]["path"] == "/health"
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert settings.metrics_host == settings.host == "0.0.0.0"


def test_selectors_select_and_ports_are_named() -> None:
    named = {
        each["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]: {
            port["name"]
            for container in each["spec"]["template"]["spec"]["containers"]
            for port in container["ports"]
        }
        for each in (*kind("Deployment"), *kind("StatefulSet"))
    }
    assert set(named) == {"penstock-edge", "penstock-worker", "penstock-redis"}
    for service in kind("Service"):
        ports = named[service["spec"]["selector"]["app.kubernetes.io/name"]]
        for port in service["spec"]["ports"]:
            assert port.get("targetPort", port["name"]) in ports
    for budget in kind("PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] in named
    for policy in kind("NetworkPolicy"):
        ports = named[policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]]
        for rule in policy["spec"]["ingress"]:
            assert {each["port"] for each in rule["ports"]} <= ports
    (scaler,) = kind("HorizontalPodAutoscaler")
    scaled = scaler["spec"]["scaleTargetRef"]["name"]
    assert scaled in named
    assert scaler["spec"]["minReplicas"] >= 2
    (deployment,) = [each for each in kind("Deployment") if each["metadata"]["name"] == scaled]
    assert "replicas" not in deployment["spec"], "applying it would undo what the autoscaler did"


def test_no_container_may_do_more_than_it_needs() -> None:
    for each in (*kind("Deployment"), *kind("StatefulSet")):
        pod = each["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"requests", "limits"} <= container["resources"].keys()
    for name, service in COMPOSE["services"].items():
        if name != "redis":
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)


def test_every_manifest_is_applied() -> None:
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    assert {*listed["resources"], "kustomization.yaml"} == {path.name for path in FILES}


def test_redis_keeps_what_it_has_confirmed_and_forgets_nothing() -> None:
    (redis,) = kind("StatefulSet")
    script = redis["spec"]["template"]["spec"]["containers"][0]["command"][-1]
    in_compose = " ".join(COMPOSE["services"]["redis"]["command"]).replace("=", " ")
    for told in (script, in_compose):
        for option in (
            "appendonly yes",
            "appendfsync always",
            "maxmemory-policy noeviction",
            "maxmemory 1gb",
        ):
            assert option in told
    assert redis["spec"]["volumeClaimTemplates"]


def test_what_jobs_may_take_fits_into_redis() -> None:
    """A Redis that is full serves nobody. 8 KiB is a job without its events."""
    for settings in (
        settings_of(environ_in_kubernetes("edge")),
        settings_of(COMPOSE["services"]["edge1"]["environment"]),
    ):
        assert settings.job_log_bytes + 8192 * settings.max_jobs < 1 << 30


@pytest.mark.wire
def test_redis_starts_as_kubernetes_tells_it_to(tmp_path: Path) -> None:
    """On another port and in another folder."""
    require_redis()
    (redis,) = kind("StatefulSet")
    shell, flag, script = redis["spec"]["template"]["spec"]["containers"][0]["command"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = script.replace("dir /data", f"dir {tmp_path}\nbind 127.0.0.1\nport {port}")
    environ = os.environ | {"REDISCLI_AUTH": "secret"}
    command = [shell, flag, script]
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as process:

        def ask(*words: str) -> str:
            told = ["redis-cli", "-p", str(port), *words]
            return subprocess.run(
                told, env=environ, capture_output=True, text=True, check=False
            ).stdout

        try:
            wait_until(lambda: ask("ping") == "PONG\n", "redis")
            assert ask("config", "get", "appendfsync") == "appendfsync\nalways\n"
            assert (tmp_path / "appendonlydir").exists()
        finally:
            process.terminate()
