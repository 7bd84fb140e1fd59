"""What `bench/gpu_facts.py` asks of a GPU, asked of what is taken for one."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from penstock.engine.model import load_model
from penstock.models import embedded_model
from tests.engine.fake_session import on_device

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.heavy
def test_each_question_has_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    found = import_module("gpu_facts").facts(on_device(load_model(embedded_model(), threads=1)))
    assert not [name for name, answer in found.items() if "failed" in str(answer)]
    assert found["prefix_binding"] == {
        "parked_rows_untouched": True,
        "same_cache": True,
        "largest_difference": 0.0,
    }
    assert found["leftovers_do_not_matter"] is True
    assert set(found["batch_invariance"].values()) == {0.0}
    assert found["equal_logits"]["lowest_first"]
    assert found["step_s"][1].keys() == {"graph", "bound", "logits", "shortlist"}
