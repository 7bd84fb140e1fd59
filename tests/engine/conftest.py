"""The engine's own tests run twice: with the cache in numpy, and on what is taken for a device."""

from __future__ import annotations

import pytest

from penstock.engine.model import Model, load_model
from penstock.models import embedded_model

from .fake_cudart import on_device

ON_BOTH = {"test_engine", "test_eviction", "test_choices", "test_grammar", "test_logprobs"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    room = metafunc.module.__name__.rpartition(".")[2]
    if room in ON_BOTH and "model" in metafunc.fixturenames:
        metafunc.parametrize("model", ["host", "device"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def model(request: pytest.FixtureRequest) -> Model:
    model = load_model(embedded_model())
    return on_device(model) if getattr(request, "param", "host") == "device" else model
