"""`penstock serve --model a=… --model b=…`, as a process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from openai import OpenAI

from penstock.models import embedded_model
from tests.engine.layouts import MODELS

from .servers import Server

pytestmark = pytest.mark.heavy


def test_two_models_of_different_layouts_in_one_server(
    start_server: Callable[..., Server],
) -> None:
    server = start_server(
        f"--model=stories={embedded_model()}",
        f"--model=noise={MODELS / 'genai_fp32'}",
        "--warmup",
    )
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["stories", "noise"]
        texts = {
            name: client.completions.create(
                model=name, prompt="Once upon a time", max_tokens=8, temperature=0
            )
            for name in ("stories", "noise", "default")
        }
    assert texts["stories"].choices[0].text == texts["default"].choices[0].text
    assert texts["noise"].choices[0].text != texts["stories"].choices[0].text
    assert [texts[name].model for name in ("noise", "default")] == ["noise", "stories"]
    log = server.log()
    for name in ("stories", "noise"):
        assert f"loading {name} (" in log
        assert f"warming up {name}" in log
        assert f"penstock serves {name} (" in log
