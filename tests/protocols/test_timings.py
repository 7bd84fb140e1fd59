"""Timings as llama.cpp's server and TGI tell them."""

from __future__ import annotations

import pytest

from penstock.events import Figures, Usage
from penstock.protocols.timings import render_timings, tgi_headers

# 0.25 s in the queue, 0.5 s of prefill, then 10 tokens in 2 s.
FIGURES = Figures(queue_s=0.25, ttft_s=0.75, tokens=11, tokens_per_s=5.0)
USAGE = Usage(20, 11)


def test_the_timings_of_an_answer() -> None:
    assert render_timings(FIGURES, USAGE) == {
        "queue_ms": 250.0,
        "prompt_n": 20,
        "prompt_ms": 500.0,
        "prompt_per_token_ms": 25.0,
        "prompt_per_second": 40.0,
        "predicted_n": 11,
        "predicted_ms": 2000.0,
        "predicted_per_token_ms": 200.0,
        "predicted_per_second": 5.0,
    }


def test_the_headers_of_a_whole_answer() -> None:
    assert dict(tgi_headers(FIGURES, USAGE, characters=80, device="cuda")) == {
        b"x-compute-type": b"gpu",
        b"x-compute-time": b"2.750000",
        b"x-compute-characters": b"80",
        b"x-total-time": b"2750",
        b"x-queue-time": b"250",
        b"x-inference-time": b"2500",
        b"x-time-per-token": b"227",
        b"x-prompt-tokens": b"20",
        b"x-generated-tokens": b"11",
    }


@pytest.mark.parametrize(
    "figures",
    [Figures(None, None, 0, None), Figures(0.0, 0.0, 1, None), Figures(0.0, 0.0, 1, 0.0)],
    ids=["nothing made", "no time at all", "one token"],
)
def test_nothing_is_divided_by_nothing(figures: Figures) -> None:
    usage = Usage(0, figures.tokens)
    told = render_timings(figures, usage)
    assert (told["predicted_ms"], told["predicted_per_second"]) == (0.0, None)
    assert (told["prompt_per_token_ms"], told["prompt_per_second"]) == (None, None)
    assert dict(tgi_headers(figures, usage, characters=0, device="cpu"))[b"x-total-time"] == b"0"
