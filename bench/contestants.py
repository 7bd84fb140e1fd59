"""Who takes part, and how each one's model is made from one checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PEERS = Path(__file__).parent / "peers"

RANDOM = "qwen2.5-0.5b"
QWEN: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "torch_dtype": "float16",
}


@dataclass(frozen=True, slots=True)
class Contestant:
    """`name` is ENGINE-PRECISION. `penstock on X` decodes the very files that X decodes."""

    engine: str
    precision: str
    files_of: str = ""

    @property
    def name(self) -> str:
        return f"{self.engine}-{self.precision}"

    @property
    def script(self) -> Path:
        return PEERS / f"run_{self.engine}.py"


CONTESTANTS = {
    each.name: each
    for each in (
        Contestant("penstock", "int8row"),
        Contestant("penstock", "int4"),
        Contestant("penstock", "fp32"),
        Contestant("penstock", "genai_int4", "genai-int4"),
        Contestant("penstock", "genai_fp32", "genai-fp32"),
        Contestant("genai", "int4"),
        Contestant("genai", "int8"),
        Contestant("genai", "fp32"),
        Contestant("transformers", "float32"),
        Contestant("transformers", "bfloat16"),
        Contestant("llama", "Q8_0"),
        Contestant("llama", "Q4_0"),
        Contestant("llama", "F16"),
        Contestant("llama", "F32"),
    )
}


def make_model(
    contestant: Contestant, checkpoint: Path, work: Path, pythons: Mapping[str, str | None]
) -> list[str]:
    """The arguments that its script takes; the model is made where it is not there yet."""
    if contestant.engine == "transformers":
        return [str(checkpoint), contestant.precision]
    if contestant.files_of:
        return make_model(CONTESTANTS[contestant.files_of], checkpoint, work, pythons)
    suffix = ".gguf" if contestant.engine == "llama" else ""
    target, python = work / f"{contestant.name}{suffix}", pythons[contestant.engine]
    if not target.exists():
        if python is None:
            raise SystemExit(f"{target} is not there and no --{contestant.engine} PYTHON given")
        print(f"making {target} ...", file=sys.stderr, flush=True)
        command = [python, *_arguments(contestant, checkpoint, target)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return [str(target)]


def _arguments(contestant: Contestant, checkpoint: Path, target: Path) -> list[str]:
    source, precision = str(checkpoint), contestant.precision
    if contestant.engine == "penstock":
        return ["-m", "penstock", "export", source, str(target), "--dtype", precision]
    if contestant.engine == "llama":
        return [str(PEERS / "write_gguf.py"), source, str(target), precision]
    # The last position's logits only, as penstock exports it: without, its prefill is slower.
    last_only = ["--extra_options", "prune_lm_head=true"]
    builder = ["-m", "onnxruntime_genai.models.builder", "-m", "", "-e", "cpu", "-i", source]
    return [*builder, "-o", str(target), "-p", precision, "-c", f"{target}.cache", *last_only]


def make_random(folder: Path, tokenizer: Path) -> Path:
    """A checkpoint in Qwen2.5-0.5B's shape with seeded random weights, in float16.

    The files of `tokenizer` are put beside it, since one builder asks for some.
    """
    if not (folder / "model.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(QWEN))
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((tokenizer / name).read_bytes())
        _write_weights(folder / "model.safetensors", _shapes())
    return folder


def _shapes() -> dict[str, tuple[int, ...]]:
    hidden, wide, head = QWEN["hidden_size"], QWEN["intermediate_size"], 64
    narrow = head * QWEN["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (QWEN["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(QWEN["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        for part, rows in (("q", hidden), ("k", narrow), ("v", narrow)):
            shapes[f"{at}.self_attn.{part}_proj.weight"] = (rows, hidden)
            shapes[f"{at}.self_attn.{part}_proj.bias"] = (rows,)
        shapes[f"{at}.self_attn.o_proj.weight"] = (hidden, hidden)
        shapes[f"{at}.mlp.gate_proj.weight"] = (wide, hidden)
        shapes[f"{at}.mlp.up_proj.weight"] = (wide, hidden)
        shapes[f"{at}.mlp.down_proj.weight"] = (hidden, wide)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{at}.{norm}.weight"] = (hidden,)
    return shapes


def _write_weights(file: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}  # type: ignore[dict-item]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(0)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            scale, offset = (0.1, 1.0) if "norm" in name else (0.02, 0.0)
            values = random.standard_normal(shape, np.float32) * scale + offset
            out.write(values.astype("<f2").tobytes())
