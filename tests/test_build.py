"""What is put together from settings, and what is refused before the port opens."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from penstock.build import (
    build_service,
    make_engine,
)
from penstock.engine.model import Model, ModelError
from penstock.engine.warmup import warm_up
from penstock.memory import available_bytes
from penstock.models import embedded_model, parse_models
from penstock.requests import Sampling
from penstock.settings import Settings
from penstock.sizing import MIN_LEN, choose_max_len, free_for_cache
from tests.engine.fake_cudart import FakeCudaMemory, FakeCudart
from tests.peers import alone, make_prompt

TOKEN_BYTES = 8 * 2 * 2 * 64 * 4
"""Layers, key and value, KV heads, head size, float32."""


def test_the_kv_cache_of_a_token_is_counted(model: Model) -> None:
    assert model.spec.kv_bytes_per_token == TOKEN_BYTES


def test_without_a_length_the_cache_is_as_long_as_memory_allows(model: Model) -> None:
    def chosen(budget_bytes: int, slots: int = 4) -> int:
        return choose_max_len(Settings(slots=slots), model, budget_bytes)

    assert chosen(1 << 40) == model.spec.max_positions == 1024
    assert chosen(2 * 4 * 300 * TOKEN_BYTES) == 300
    assert chosen(2 * 4 * 300 * TOKEN_BYTES, slots=8) == 150
    assert choose_max_len(Settings(slots=4), model, 2 * 4 * 300 * TOKEN_BYTES, models=2) == 150
    assert chosen(2 * 4 * MIN_LEN * TOKEN_BYTES) == MIN_LEN
    with pytest.raises(ModelError, match=r"4 slots of 128 tokens need 4 MiB .* lower --slots"):
        chosen(2 * 4 * MIN_LEN * TOKEN_BYTES - 1)


def test_a_length_that_memory_cannot_hold_is_refused_with_what_it_needs(model: Model) -> None:
    settings = Settings(slots=4, max_len=600)
    assert choose_max_len(settings, model, 4 * 600 * TOKEN_BYTES, models=2) == 600
    with pytest.raises(ModelError, match=r"4 slots of 600 tokens need 18 MiB .* --max-len"):
        choose_max_len(settings, model, 4 * 600 * TOKEN_BYTES - 1)
    assert choose_max_len(Settings(max_len=5000), model, 1 << 40) == 1024


def test_memory_is_what_is_free_or_what_the_container_allows(tmp_path: Path) -> None:
    meminfo, none = tmp_path / "meminfo", tmp_path / "none"
    meminfo.write_text("MemTotal:  900 kB\nMemAvailable:     500 kB\n")
    assert available_bytes(meminfo, none) == 500 << 10
    (tmp_path / "memory.max").write_text("300000\n")
    (tmp_path / "memory.current").write_text("100000\n")
    assert available_bytes(meminfo, tmp_path) == 200_000
    (tmp_path / "memory.stat").write_text("anon 7\ninactive_file 50000\nactive_file 9\n")
    assert available_bytes(meminfo, tmp_path) == 250_000
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


@pytest.mark.parametrize(("slots", "max_len"), [(4, 2), (4, 5), (4, 17), (16, 8), (64, 48)])
def test_warming_up_fits_the_shortest_caches(model: Model, slots: int, max_len: int) -> None:
    settings = Settings(slots=slots, max_len=max_len, prefill_chunk=16)
    warm_up(make_engine(settings, model), slots)


def test_a_model_that_does_not_decode_is_found_while_warming_up(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no kernel")

    settings = Settings(slots=2, max_len=64, warmup=True)
    engine = make_engine(settings, model)
    monkeypatch.setattr(engine._batch, "step", fail)
    with pytest.raises(RuntimeError, match="no kernel"):
        warm_up(engine, settings.slots)
    assert repr(engine.slots) == "<Slots 0 of 2 in use>"


def test_what_takes_a_while_is_said_before_it_is_done() -> None:
    lines: list[str] = []
    embedded = embedded_model()
    service = build_service(
        Settings(model=(f"a={embedded}", f"b={embedded}"), warmup=True, slots=2, device="cpu"),
        lines.append,
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


@pytest.mark.parametrize(
    ("free_bytes", "remedy"),
    [
        (2 * 600 * TOKEN_BYTES, r"lower --slots or --max-len \(2 such slots would fit\)"),
        (599 * TOKEN_BYTES, "not even one such slot fits: lower --max-len"),
    ],
)
def test_a_cache_that_does_not_fit_is_refused_with_what_would(
    model: Model, free_bytes: int, remedy: str
) -> None:
    with pytest.raises(ModelError, match=remedy):
        choose_max_len(Settings(slots=4, max_len=600), model, free_bytes)


def test_kv_takes_the_share_that_is_set(model: Model) -> None:
    free_bytes = 4 * 500 * TOKEN_BYTES
    for fraction, length in ((1.0, 500), (0.5, 250)):
        settings = Settings(slots=4, kv_memory_fraction=fraction)
        assert choose_max_len(settings, model, free_bytes) == length


def test_on_a_device_what_is_free_there_counts(model: Model) -> None:
    memory = FakeCudaMemory(FakeCudart(free=123 << 20))
    assert free_for_cache(replace(model, memory=memory)) == 123 << 20


def test_a_device_that_cannot_hold_the_cache_is_told_of(model: Model) -> None:
    memory = FakeCudaMemory(FakeCudart(free=0))
    on_device = replace(model, memory=memory)
    with pytest.raises(ModelError, match="not even one such slot fits"):
        make_engine(Settings(slots=1), on_device)


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


@pytest.mark.parametrize("text", ["=models/default", "name=", " = "])
def test_a_model_without_a_name_or_a_path_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match=r"it is NAME=PATH, or PATH alone"):
        build_service(Settings(model=(text,)))


def test_blanks_and_empty_parts_are_no_models() -> None:
    embedded = embedded_model()
    assert parse_models((f"a={embedded}", "", f" b = {embedded} ")) == {
        "a": embedded,
        "b": embedded,
    }
    assert parse_models(("",)) == parse_models(()) == {"default": embedded}


def test_what_memory_does_not_allow_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.sizing.available_bytes", lambda: 2 * 4 * 300 * TOKEN_BYTES)
    lines: list[str] = []
    service = build_service(Settings(slots=4, device="cpu"), lines.append)
    assert service.default.max_len == 300
    assert lines[1].startswith("default: 300 of 1024 tokens a slot, which is what memory allows")
