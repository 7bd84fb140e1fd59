"""Models that cannot be served are refused by name, in one line that says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from penstock.engine.model import ModelError, load_model
from penstock.engine.tokenizer import load_tokenizer
from tests.engine.layouts import MODELS

Shape = Sequence[int | str]
INT64, FLOAT = TensorProto.INT64, TensorProto.FLOAT
TOKENS = {"input_ids": (INT64, ["b", "s"]), "attention_mask": (INT64, ["b", "t"])}
CACHE: Shape = ["b", 2, "p", 16]


def caches(kind: int = FLOAT, shape: Shape = CACHE) -> dict[str, tuple[int, Shape]]:
    return {f"past_key_values.0.{each}": (kind, shape) for each in ("key", "value")}


def write_graph(
    folder: Path, inputs: Mapping[str, tuple[int, Shape]], *, logits: str = "logits"
) -> Path:
    """A graph with these inputs that passes every past through as present."""
    folder.mkdir(exist_ok=True)
    past = [name for name in inputs if name.startswith("past")]
    present = {
        name.replace("past_key_values", "past").replace("past", "present"): name for name in past
    }
    nodes = [helper.make_node("Identity", [name], [out]) for out, name in present.items()]
    nodes.append(helper.make_node("Cast", ["input_ids"], [logits], to=FLOAT))
    given = {"input_ids": TOKENS["input_ids"], **inputs}
    graph = helper.make_graph(
        nodes,
        "decoder",
        [helper.make_tensor_value_info(name, *about) for name, about in given.items()],
        [
            helper.make_tensor_value_info(logits, FLOAT, None),
            *(helper.make_tensor_value_info(out, *inputs[name]) for out, name in present.items()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))
    return folder


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"past_conv.0": (FLOAT, ["b", 8, 3]), **caches()},
            r"keeps convolution or state-space state .*past_conv\.0.*attention layers only",
        ),
        ({"past_ssm.1": (FLOAT, ["b", 8]), **caches()}, "convolution or state-space"),
        (
            {"encoder_hidden_states": (FLOAT, ["b", "e", 8]), **caches()},
            "one half of an encoder-decoder .*decoder-only",
        ),
        ({"past_key_values.0.decoder.key": (FLOAT, CACHE)}, "one half of an encoder-decoder"),
        ({"inputs_embeds": (FLOAT, ["b", "s", 8]), **caches()}, "more than text .*inputs_embeds"),
        ({"pixel_values": (FLOAT, ["b", 3, 8, 8]), **caches()}, "more than text .*pixel_values"),
        (TOKENS, "no KV cache; export it with past"),
        (
            {"position_ids": (INT64, [3, "b", "s"]), **caches()},
            r"position_ids of shape \[3, 'b', 's'\].*one position a token",
        ),
        (caches(TensorProto.BFLOAT16), r"KV cache of type tensor\(bfloat16\).*float32 and float16"),
        (caches(TensorProto.INT8), r"KV cache of type tensor\(int8\)"),
        ({"past_key_values.0": (FLOAT, CACHE)}, "without a present key and value"),
        (caches(shape=["b", "p", 32]), "different or unknown shapes"),
        (
            {**caches(), "past_key_values.1.key": (FLOAT, ["b", 4, "p", 16])},
            "different or unknown shapes|without a present",
        ),
        ({"attention_mask": (FLOAT, ["b", "t"]), **caches()}, r"attention_mask as tensor\(float\)"),
        ({"beam_width": (INT64, [1]), **caches()}, r"unsupported inputs \['beam_width'\]"),
        (caches(shape=["b", "h", "p", "d"]), r"leaves the size of its KV cache open"),
        (caches(), "fails on a trial run|neither grows|logits of shape"),
    ],
)
def test_an_unsupported_graph_is_refused_by_name(
    tmp_path: Path, inputs: dict[str, tuple[int, Shape]], message: str
) -> None:
    folder = write_graph(tmp_path / "model", inputs)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_graph_without_logits_is_refused(tmp_path: Path) -> None:
    folder = write_graph(tmp_path / "model", caches(), logits="last_hidden_state")
    with pytest.raises(ModelError, match="no output `logits`"):
        load_model(folder)


def test_of_several_graphs_one_must_be_chosen(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "transformers_js", tmp_path / "model"))
    with pytest.raises(
        ModelError, match=r"2 models \(model.onnx, model_fp16.onnx\); choose"
    ) as told:
        load_model(folder)
    option = str(told.value).rsplit("--model ", 1)[1]
    assert load_model(Path(option)).file == folder / "onnx" / "model_fp16.onnx"
    (folder / "onnx" / "model.onnx").unlink()
    model = load_model(folder)
    assert (model.folder, model.file) == (folder, folder / "onnx" / "model_fp16.onnx")


def test_a_genai_config_names_the_graph(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "genai_fp32", tmp_path / "model"))
    config = json.loads((folder / "genai_config.json").read_text())
    config["model"]["decoder"]["filename"] = "phi.onnx"
    (folder / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"lacks phi\.onnx, which its genai_config\.json names"):
        load_model(folder)
    (folder / "model.onnx").rename(folder / "phi.onnx")
    assert load_model(folder).file.name == "phi.onnx"
    del config["model"]["decoder"]
    (folder / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"names no model\.decoder\.filename"):
        load_model(folder)


def test_a_context_that_no_file_tells_is_asked_for(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "optimum_llama", tmp_path / "model"))
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"context length .*config\.json"):
        load_model(folder)


def test_a_missing_tokenizer_is_asked_for(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "optimum_llama", tmp_path / "model"))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer\.json in .*copy the one"):
        load_tokenizer(folder)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "optimum_llama", tmp_path / "model"))
    model = onnx.load(folder / "model.onnx")
    onnx.save_model(
        model,
        folder / "model.onnx",
        save_as_external_data=True,
        location="model.onnx_data",
        size_threshold=100,
    )
    (folder / "model.onnx_data").unlink()
    with pytest.raises(ModelError, match="onnxruntime cannot open") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
