"""Fixtures that every room uses: the embedded model, opened once."""

from __future__ import annotations

import secrets
from random import Random

import hypothesis
import pytest

from penstock import logs
from penstock.engine.model import Model, load_model
from penstock.engine.tokenizer import Tokenizer, load_tokenizer
from penstock.models import embedded_model

# The same examples in every run, however busy the machine; --hypothesis-profile=default explores.
hypothesis.settings.register_profile("steady", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("steady")


@pytest.fixture(autouse=True)
def lines_go_to_logging() -> None:
    """Where `caplog` finds them, also after a test of a command that sends them elsewhere."""
    logs.to_logging()


@pytest.fixture(autouse=True)
def steady_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request without a seed is answered alike in every run."""
    monkeypatch.setattr(secrets, "randbelow", Random(0).randrange)


@pytest.fixture(scope="session")
def model() -> Model:
    return load_model(embedded_model())


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return load_tokenizer(embedded_model())
