"""`export_model` writes a complete directory or nothing."""

import math
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest

from penstock.export import Dtype, ExportError, ExportReport, export_model
from penstock.export.config import DecoderConfig
from penstock.export.decoder import decoder_model
from penstock.export.files import all_or_nothing, write_model
from penstock.export.weights import Checkpoint

from .checkpoints import TINY, random_tensors, write_checkpoint, write_tensors
from .conftest import Exported
from .slots import Slots, session

DTYPES = get_args(Dtype)
ON_CPU = [dtype for dtype in DTYPES if dtype != "bf16"]
COMPANIONS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_checkpoint_gives_the_same_bytes(
    exported: Exported, tmp_path: Path, dtype: Dtype
) -> None:
    first = exported.model(dtype).read_bytes()
    report = export_model(exported.source, tmp_path / "again", dtype=dtype)
    assert (tmp_path / "again" / "model.onnx").read_bytes() == first
    parameters = sum(values.size for values in exported.tensors.values())
    assert report == ExportReport(dtype=dtype, parameters=parameters, bytes=len(first))


def test_int8row_is_the_default_and_the_smaller(exported: Exported, tmp_path: Path) -> None:
    report = export_model(exported.source, tmp_path / "default")
    assert report.dtype == "int8row"
    assert report.bytes < 0.5 * exported.model("fp32").stat().st_size


def test_the_model_says_what_it_is(exported: Exported) -> None:
    model = onnx.load(exported.model("int8row"))
    assert model.producer_name == "penstock"
    assert {each.key: each.value for each in model.metadata_props} == {
        "producer": "penstock",
        "dtype": "int8row",
    }


@pytest.mark.parametrize("dtype", ON_CPU)
def test_the_signature_is_the_one_the_engine_reads(exported: Exported, dtype: Dtype) -> None:
    running = session(exported.model(dtype))
    past = [f"past_key_values.{n}.{side}" for n in range(3) for side in ("key", "value")]
    stored = "tensor(float16)" if dtype == "fp16" else "tensor(float)"
    inputs = {each.name: (each.type, each.shape) for each in running.get_inputs()}
    assert inputs == {
        "input_ids": ("tensor(int64)", ["batch", "sequence"]),
        "attention_mask": ("tensor(int64)", ["batch", "total_sequence"]),
        **{name: (stored, ["batch", 2, "past_sequence", 32]) for name in past},
    }
    outputs = {each.name: (each.type, each.shape) for each in running.get_outputs()}
    present = [name.replace("past_key_values", "present") for name in past]
    assert outputs == {
        "logits": (stored, ["batch", 1, 50]),
        **{name: (stored, ["batch", 2, "present_sequence", 32]) for name in present},
    }


@pytest.mark.parametrize("exported", [True], indirect=True, ids=["tied"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tied_embedding_is_stored_once(exported: Exported, dtype: Dtype) -> None:
    model = onnx.load(exported.model(dtype))
    sizes = [math.prod(each.dims) for each in model.graph.initializer]
    assert sizes.count(50 * 64) == 1


def test_companions_are_copied_where_they_exist(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "source", TINY)
    for name in COMPANIONS[:-1]:
        (tmp_path / "source" / name).write_text(f"{name} é\r\n", encoding="utf-8", newline="")
    (tmp_path / "source" / "README.md").write_text("not wanted")
    export_model(tmp_path / "source", tmp_path / "out")
    written = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    expected = {"model.onnx", "config.json", *COMPANIONS[:-1]}
    assert written.keys() == expected
    for name in expected - {"model.onnx"}:
        assert written[name] == (tmp_path / "source" / name).read_bytes()


def test_an_empty_destination_is_used_and_parents_are_made(
    exported: Exported, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for destination in (tmp_path / "empty", tmp_path / "some" / "where"):
        export_model(exported.source, destination)
        assert (destination / "model.onnx").is_file()
        assert [each.name for each in destination.parent.iterdir() if "partial" in each.name] == []


def test_an_occupied_destination_is_refused_and_left_alone(
    exported: Exported, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("kept")
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ExportError, match="full is not empty"):
        export_model(exported.source, tmp_path / "full")
    with pytest.raises(ExportError, match="file is a file"):
        export_model(exported.source, tmp_path / "file")
    assert (tmp_path / "full" / "precious").read_text() == (tmp_path / "file").read_text() == "kept"
    assert len(list((tmp_path / "full").iterdir())) == 1


def test_an_unknown_dtype_is_refused(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(
        ExportError,
        match="dtype 'int2' is not supported; supported: fp32, fp16, bf16, int8row, int8, int4",
    ):
        export_model(exported.source, tmp_path / "out", dtype="int2")  # type: ignore[arg-type] # what a CLI may pass
    assert not (tmp_path / "out").exists()


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "source", TINY)
    tensors = random_tensors(TINY)
    del tensors["model.layers.2.mlp.down_proj.weight"]
    write_tensors(tmp_path / "source" / "model.safetensors", tensors)
    with pytest.raises(ExportError, match=r"no tensor model\.layers\.2\.mlp\.down_proj\.weight"):
        export_model(tmp_path / "source", tmp_path / "out")
    assert [each.name for each in tmp_path.iterdir()] == ["source"]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with all_or_nothing(tmp_path / "out") as partial:
            (partial / "model.onnx").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_an_untied_checkpoint_without_a_head_is_refused(tmp_path: Path) -> None:
    config = {**TINY, "tie_word_embeddings": False}
    write_checkpoint(tmp_path / "source", config)
    tensors = random_tensors(config)
    del tensors["lm_head.weight"]
    write_tensors(tmp_path / "source" / "model.safetensors", tensors)
    with pytest.raises(ExportError, match=r"no tensor lm_head\.weight"):
        export_model(tmp_path / "source", tmp_path / "out")


def test_a_large_model_keeps_its_weights_in_a_second_file(
    exported: Exported, tmp_path: Path
) -> None:
    model = decoder_model(
        DecoderConfig.read(exported.source), Checkpoint.open(exported.source), "fp32"
    )
    written = write_model(model, tmp_path, inline_bytes=10_000)
    assert {each.name for each in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
    assert written == sum(each.stat().st_size for each in tmp_path.iterdir())
    assert (tmp_path / "model.onnx").stat().st_size < 0.2 * written
    in_two, in_one = (
        Slots(session(file), slots=1, capacity=8).prefill(0, [1, 2, 3])
        for file in (tmp_path / "model.onnx", exported.model("fp32"))
    )
    np.testing.assert_array_equal(in_two, in_one)
