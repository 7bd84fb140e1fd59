"""What is put together from settings, and what is refused before the port opens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from penstock.build import build_service, choose_max_len, make_engine
from penstock.engine.model import Model, ModelError
from penstock.engine.warmup import warm_up
from penstock.memory import available_bytes
from penstock.models import embedded_model
from penstock.requests import Sampling
from penstock.settings import Settings
from tests.peers import alone, make_prompt

TOKEN_BYTES = 8 * 2 * 2 * 64 * 4
"""Layers, key and value, KV heads, head size, float32."""


def test_the_kv_cache_of_a_token_is_counted(model: Model) -> None:
    assert model.spec.kv_bytes_per_token == TOKEN_BYTES


def test_without_a_length_the_cache_is_as_long_as_memory_allows(model: Model) -> None:
    def chosen(budget_bytes: int, slots: int = 4) -> int:
        return choose_max_len(Settings(slots=slots), model, budget_bytes)

    assert chosen(1 << 40) == model.spec.max_positions == 1024
    assert chosen(4 * 300 * TOKEN_BYTES) == 300
    assert chosen(4 * 300 * TOKEN_BYTES, slots=8) == 150
    assert chosen(0) == Settings().prefill_chunk


def test_a_length_that_memory_cannot_hold_is_refused_with_what_it_needs(model: Model) -> None:
    settings = Settings(slots=4, max_len=600)
    assert choose_max_len(settings, model, 4 * 300 * TOKEN_BYTES) == 600
    with pytest.raises(ModelError, match=r"4 slots of 600 tokens need 18 MiB .* --max-len"):
        choose_max_len(settings, model, 4 * 299 * TOKEN_BYTES)
    assert choose_max_len(Settings(max_len=5000), model, 1 << 40) == 1024


def test_memory_is_what_is_free_or_what_the_container_allows(tmp_path: Path) -> None:
    meminfo, none = tmp_path / "meminfo", tmp_path / "none"
    meminfo.write_text("MemTotal:  900 kB\nMemAvailable:     500 kB\n")
    assert available_bytes(meminfo, none) == 500 << 10
    (tmp_path / "memory.max").write_text("300000\n")
    (tmp_path / "memory.current").write_text("100000\n")
    assert available_bytes(meminfo, tmp_path) == 200_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(meminfo, tmp_path) == 500 << 10
    assert 0 < available_bytes(none, none) < 1 << 50


def test_warming_up_leaves_no_trace(model: Model) -> None:
    settings = Settings(slots=3, max_len=64, prefill_chunk=16)
    engine = make_engine(settings, model)
    warm_up(engine, settings.slots)
    assert repr(engine.slots) == "<Slots 0 of 3 in use>"
    assert (engine.prefixes.bytes, engine.prefixes.hits, engine.parked.bytes) == (0, 0, 0)
    prompt = make_prompt(20, max_tokens=8)
    assert alone(engine, prompt) == alone(make_engine(settings, model), prompt)


@pytest.mark.parametrize("max_len", [1, 2, 5, 17])
def test_warming_up_fits_the_shortest_caches(model: Model, max_len: int) -> None:
    settings = Settings(slots=4, max_len=max_len, prefill_chunk=16)
    warm_up(make_engine(settings, model), settings.slots)


def test_what_takes_a_while_is_said_before_it_is_done() -> None:
    lines: list[str] = []
    embedded = embedded_model()
    service = build_service(
        Settings(model=(f"a={embedded}", f"b={embedded}"), warmup=True, slots=2), lines.append
    )
    assert lines == [
        f"loading a ({embedded})",
        "warming up a",
        f"loading b ({embedded})",
        "warming up b",
    ]
    assert list(service.models) == ["a", "b"]
    assert service.default is service.models["a"]


def test_two_models_of_one_name_are_refused() -> None:
    embedded = embedded_model()
    with pytest.raises(ModelError, match="two models are called default; name them"):
        build_service(Settings(model=(str(embedded), str(embedded))))


@pytest.fixture
def recommended(tmp_path: Path) -> Path:
    """The embedded model, with what its makers would recommend."""
    folder = tmp_path / "recommended"
    shutil.copytree(embedded_model(), folder)
    return folder


async def test_what_a_request_leaves_open_is_as_the_model_recommends(recommended: Path) -> None:
    stated = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.1}
    (recommended / "generation_config.json").write_text(json.dumps({**stated, "min_p": None}))
    served = build_service(Settings(model=(str(recommended),))).default
    defaults = served.decoder.engine.model.spec.defaults
    assert defaults == stated
    assert Sampling.of(temperature=0.0, top_k=None, seed=4).over(defaults) == Sampling(
        temperature=0.0, top_p=0.9, top_k=40, repetition_penalty=1.1, seed=4
    )
    assert Sampling.of(top_p=1.0, top_k=0).over(defaults) == Sampling(
        temperature=0.7, top_p=1.0, top_k=0, repetition_penalty=1.1
    )
    assert Sampling.of().over({}) == Sampling()


@pytest.mark.parametrize(
    ("name", "value"), [("temperature", "hot"), ("top_p", 0), ("top_k", True), ("min_p", np.pi)]
)
def test_nonsense_in_the_models_files_is_refused_by_name(
    recommended: Path, name: str, value: object
) -> None:
    (recommended / "generation_config.json").write_text(json.dumps({name: value}))
    with pytest.raises(ModelError, match=f"has a {name} that is no number from"):
        build_service(Settings(model=(str(recommended),)))
