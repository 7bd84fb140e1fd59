"""The network: a llama-shaped decoder in PyTorch, and the checkpoint files it becomes."""

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import prep
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from safetensors.torch import save as serialised
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-5
THETA = 10000.0


@dataclass(frozen=True)
class Shape:
    """The sizes of a model. `context` is the longest sequence it is trained on."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    context: int

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 1:
            raise prep.TrainError("every size has to be at least 1")
        if self.hidden % self.heads or self.heads % self.kv_heads or self.head_dim % 16:
            raise prep.TrainError(
                "hidden / heads has to be a multiple of 16, and heads a multiple of kv-heads"
            )
        if not len(prep.SPECIAL) + 256 <= self.vocab <= 2**16:
            raise prep.TrainError(f"vocab has to lie in {len(prep.SPECIAL) + 256} to {2**16}")

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, rows: Tensor) -> Tensor:
        return functional.rms_norm(rows, self.weight.shape, self.weight.to(rows.dtype), EPS)


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        queries, keys = shape.hidden, shape.kv_heads * shape.head_dim
        self.head_dim = shape.head_dim
        self.q_proj, self.o_proj = linear(shape.hidden, queries), linear(queries, shape.hidden)
        self.k_proj, self.v_proj = linear(shape.hidden, keys), linear(shape.hidden, keys)

    def forward(self, rows: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        queries, keys = (
            rotate(self._heads(each(rows)), cos, sin) for each in (self.q_proj, self.k_proj)
        )
        values = self._heads(self.v_proj(rows)).to(queries.dtype)
        attended = functional.scaled_dot_product_attention(
            queries, keys, values, is_causal=True, enable_gqa=True
        )
        projected: Tensor = self.o_proj(attended.transpose(1, 2).flatten(2))
        return projected

    def _heads(self, rows: Tensor) -> Tensor:
        """[batch, sequence, width] to [batch, heads, sequence, head_dim]."""
        return rows.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = heads.chunk(2, -1)
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
    return turned.to(heads.dtype)


class FeedForward(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = linear(shape.hidden, shape.intermediate)
        self.up_proj = linear(shape.hidden, shape.intermediate)
        self.down_proj = linear(shape.intermediate, shape.hidden)

    def forward(self, rows: Tensor) -> Tensor:
        gated = functional.silu(self.gate_proj(rows)) * self.up_proj(rows)
        projected: Tensor = self.down_proj(gated)
        return projected


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm, self.self_attn = Norm(shape.hidden), Attention(shape)
        self.post_attention_layernorm, self.mlp = Norm(shape.hidden), FeedForward(shape)

    def forward(self, rows: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rows = rows + self.self_attn(self.input_layernorm(rows), cos, sin)
        summed: Tensor = rows + self.mlp(self.post_attention_layernorm(rows))
        return summed


class Llama(nn.Module):
    """Its parameters carry the names that checkpoints use, without the leading "model."."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden)
        turns = torch.arange(0, shape.head_dim, 2) / shape.head_dim
        angles = torch.outer(torch.arange(shape.context), THETA**-turns)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self._initialise()

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss in nats a token; both are [batch, sequence]."""
        length = tokens.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        rows = self.embed_tokens(tokens)
        for layer in self.layers:
            rows = layer(rows, cos, sin)
        # The head is the embedding itself.
        logits = functional.linear(self.norm(rows), self.embed_tokens.weight)
        return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                # What is added to the residual starts smaller, the more often it is added.
                adds = name.endswith(("o_proj.weight", "down_proj.weight"))
                deep = math.sqrt(2 * self.shape.layers) if adds else 1.0
                nn.init.normal_(parameter, std=0.02 / deep)


def read_checkpoint(folder: Path, context: int) -> Llama:
    """The network of such a checkpoint, to be trained on sequences of `context` tokens."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        weights = load((folder / "model.safetensors").read_bytes())
        sizes = {ours: int(config[theirs]) for ours, theirs in _SIZES.items()}
        model = Llama(Shape(**sizes, context=context))
        model.load_state_dict({n.removeprefix("model."): each for n, each in weights.items()})
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise prep.TrainError(f"{folder} is no checkpoint of this kind of model: {error}") from None
    if float(config.get("rope_theta", THETA)) != THETA:
        raise prep.TrainError(f"{folder} has another rotary base than {THETA:.0f}")
    return model


def write_checkpoint(model: Llama, tokeniser: Tokenizer, folder: Path) -> None:
    """Write what an exporter needs, each file replaced in one go."""
    weights = {
        f"model.{name}": each.cpu().contiguous() for name, each in model.state_dict().items()
    }
    partial = folder / "model.safetensors.partial"
    partial.write_bytes(serialised(weights, metadata={"format": "pt"}))
    os.replace(partial, folder / "model.safetensors")
    tokeniser.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(prep.CHAT_TEMPLATE, encoding="utf-8")
    stops = {"bos_token_id": prep.START_ID, "eos_token_id": [prep.START_ID, prep.END_ID]}
    _write_json(folder / "config.json", {**_config(model.shape), **stops})
    _write_json(folder / "generation_config.json", {**stops, "max_new_tokens": 256})
    _write_json(folder / "tokenizer_config.json", prep.tokeniser_config())


_SIZES = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "intermediate": "intermediate_size",
    "vocab": "vocab_size",
}


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **{theirs: getattr(shape, ours) for ours, theirs in _SIZES.items()},
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": EPS,
        "rope_theta": THETA,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "torch_dtype": "float32",
    }


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
