"""A llama or qwen2 checkpoint as GGUF: `python write_gguf.py DIR FILE TYPE [words]`.

Runs in llama-cpp-python's environment, with the `gguf` package. TYPE is F32, F16, Q8_0 or Q4_0.
`words` adds the tokenizer, which must be a byte-level BPE as GPT-2's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def main(source: Path, target: Path, kind: gguf.GGMLQuantizationType, *, words: bool) -> None:
    config = json.loads((source / "config.json").read_text())
    writer = gguf.GGUFWriter(str(target), config["model_type"])
    write_config(writer, config)
    if words:
        write_tokenizer(writer, source)
    else:
        writer.add_tokenizer_model("none")
    for name, array in tensors(source):
        stored = permuted(name, array, config)
        matrix = array.ndim == 2
        data = gguf.quants.quantize(stored, kind) if matrix else stored
        raw = kind if matrix and kind not in PLAIN else None
        writer.add_tensor(gguf_name(name), data, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


PLAIN = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16)


def write_config(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    heads = config["num_attention_heads"]
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def write_tokenizer(writer: gguf.GGUFWriter, source: Path) -> None:
    described = json.loads((source / "tokenizer.json").read_text())
    special = {token["content"] for token in described["added_tokens"]}
    ids = described["model"]["vocab"]
    tokens = sorted(ids, key=ids.__getitem__)
    kinds = [gguf.TokenType.CONTROL if it in special else gguf.TokenType.NORMAL for it in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in described["model"]["merges"]])
    end = json.loads((source / "tokenizer_config.json").read_text())["eos_token"]
    writer.add_bos_token_id(ids[end])
    writer.add_eos_token_id(ids[end])
    writer.add_add_bos_token(True)


def tensors(source: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor of the one safetensors file, as float32."""
    raw = np.memmap(source / "model.safetensors", np.uint8, "r")
    start = 8 + int.from_bytes(raw[:8].tobytes(), "little")
    header = json.loads(raw[8:start].tobytes())
    for name, about in header.items():
        if name == "__metadata__":
            continue
        begin, end = (start + offset for offset in about["data_offsets"])
        yield name, widened(raw[begin:end], about["dtype"]).reshape(about["shape"])


def widened(raw: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "BF16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return raw.view({"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float32)


def permuted(name: str, array: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """llama.cpp rotates neighbouring pairs in its llama graph, and halves in its qwen2 graph."""
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    part = name.split(".")[-2]
    if config["model_type"] != "llama" or part not in heads:
        return array
    split = array.reshape(config[heads[part]], 2, -1, *array.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(array.shape))


def gguf_name(name: str) -> str:
    if not name.startswith("model.layers."):
        return {
            "model.embed_tokens.weight": "token_embd.weight",
            "model.norm.weight": "output_norm.weight",
            "lm_head.weight": "output.weight",
        }[name]
    _, _, layer, rest = name.split(".", 3)
    part, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[part]}.{kind}"


if __name__ == "__main__":
    kind = gguf.GGMLQuantizationType[sys.argv[3]]
    main(Path(sys.argv[1]), Path(sys.argv[2]), kind, words="words" in sys.argv[4:])
