"""How long an answer took, as llama.cpp's server and TGI tell it."""

from __future__ import annotations

from penstock.events import Figures, Usage


def render_timings(figures: Figures, usage: Usage) -> dict[str, float | int | None]:
    """llama.cpp's `timings` of an answer that ended well, and `queue_ms`, which it has not.

    The first token comes with the prompt, so rates are those of the tokens after it.
    """
    prompt_ms, predicted_ms = _prefill_s(figures) * 1e3, _decode_s(figures) * 1e3
    later = max(usage.completion_tokens - 1, 0)
    return {
        "queue_ms": round((figures.queue_s or 0.0) * 1e3, 3),
        "prompt_n": usage.prompt_tokens,
        "prompt_ms": round(prompt_ms, 3),
        "prompt_per_token_ms": _ratio(prompt_ms, usage.prompt_tokens),
        "prompt_per_second": _ratio(usage.prompt_tokens * 1e3, prompt_ms),
        "predicted_n": usage.completion_tokens,
        "predicted_ms": round(predicted_ms, 3),
        "predicted_per_token_ms": _ratio(predicted_ms, later),
        "predicted_per_second": _ratio(later * 1e3, predicted_ms),
    }


def tgi_headers(
    figures: Figures, usage: Usage, *, characters: int, device: str
) -> list[tuple[bytes, bytes]]:
    """TGI's headers of a whole answer; `characters` is the prompt's length.

    As there, `x-compute-time` is in seconds and the others are whole milliseconds.
    """
    inference_s = _prefill_s(figures) + _decode_s(figures)
    total_s = (figures.queue_s or 0.0) + inference_s
    told = {
        "x-compute-type": "gpu" if device == "cuda" else "cpu",
        "x-compute-time": f"{total_s:.6f}",
        "x-compute-characters": str(characters),
        "x-total-time": _milliseconds(total_s),
        "x-queue-time": _milliseconds(figures.queue_s or 0.0),
        "x-inference-time": _milliseconds(inference_s),
        "x-time-per-token": _milliseconds(inference_s / max(usage.completion_tokens, 1)),
        "x-prompt-tokens": str(usage.prompt_tokens),
        "x-generated-tokens": str(usage.completion_tokens),
    }
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in told.items()]


def _prefill_s(figures: Figures) -> float:
    return (figures.ttft_s or 0.0) - (figures.queue_s or 0.0)


def _decode_s(figures: Figures) -> float:
    """From the first token to the last."""
    if not figures.tokens_per_s:
        return 0.0
    return (figures.tokens - 1) / figures.tokens_per_s


def _ratio(above: float, below: float) -> float | None:
    return round(above / below, 3) if below else None


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1e3))
