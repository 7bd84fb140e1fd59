"""The engine's own tests run with the cache in numpy, and on what is taken for a device.

There once as it is, and once with all steps captured.
"""

from __future__ import annotations

import pytest

from penstock.engine.model import Model, load_model
from penstock.models import embedded_model

from .fake_session import on_device

ON_ALL = {"test_engine", "test_eviction", "test_choices", "test_grammar", "test_logprobs"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    room = metafunc.module.__name__.rpartition(".")[2]
    if room in ON_ALL and "model" in metafunc.fixturenames:
        others = [pytest.param(each, marks=pytest.mark.heavy) for each in ("device", "captured")]
        metafunc.parametrize("model", ["host", *others], indirect=True, scope="session")


@pytest.fixture(scope="session")
def model(request: pytest.FixtureRequest) -> Model:
    model = load_model(embedded_model())
    place = getattr(request, "param", "host")
    return model if place == "host" else on_device(model, capture_rows=64 * (place == "captured"))
