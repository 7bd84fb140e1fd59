"""What holding answers to a schema costs: tokens a second with and without, taken in turns.

    python bench/grammar.py [--model FOLDER] [--batch 8] [--tokens 64] [--rounds 12]

The engine alone, on one thread, as `penstock serve` runs it. Answers are drawn at temperature 1,
and the schema has no end within them: strings of some length between names and punctuation, so
that masks of all kinds are asked for. A round is one batch decoded without and one with the
schema, in alternating order.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

from penstock.engine.engine import Engine
from penstock.engine.grammar import Grammars
from penstock.engine.model import load_model
from penstock.engine.sequence import Sampled
from penstock.engine.tokenizer import load_tokenizer
from penstock.models import embedded_model
from penstock.protocols.constraints import parse_schema
from penstock.requests import Constraint, Prompt, Sampling

SCHEMA = {
    "type": "array",
    "minItems": 1000,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 5, "maxLength": 40},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "kind": {"enum": ["red", "green", "blue"]},
            "notes": {"type": "array", "items": {"type": "string", "maxLength": 60}, "minItems": 2},
        },
        "required": ["name", "age", "kind", "notes"],
        "additionalProperties": False,
    },
}


def decode(
    engine: Engine, constraint: Constraint | None, batch: int, tokens: int, seed: int
) -> float:
    """Tokens a second of `batch` sequences that step together, prompts left out."""
    sequences = []
    for index in range(batch):
        prompt = Prompt(
            token_ids=(0, 400 + index, 500 + seed),
            max_tokens=tokens + 1,
            sampling=Sampling(temperature=1.0),
            seed=seed * batch + index,
            ignore_eos=True,
            constraint=constraint,
        )
        sequence = engine.open(prompt)
        engine.admit(sequence)
        engine.prefill(sequence)
        sequences.append(sequence)
    started = time.perf_counter()
    for _ in range(tokens):
        results = engine.step(sequences)
        assert all(isinstance(result, Sampled) for result in results), results
    wall_s = time.perf_counter() - started
    for sequence in sequences:
        engine.close(sequence)
    return batch * tokens / wall_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=embedded_model())
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=12)
    asked = parser.parse_args()
    model, tokenizer = load_model(asked.model), load_tokenizer(asked.model)
    started = time.perf_counter()
    grammars = Grammars(tokenizer.vocabulary, model.spec.vocab_size, model.spec.eos_ids)
    loaded_s = time.perf_counter() - started
    started = time.perf_counter()
    constraint = grammars.compile(parse_schema(SCHEMA, "schema"))
    compiled_s = time.perf_counter() - started
    engine = Engine(model, slots=asked.batch, max_len=asked.tokens + 8, prefill_chunk=128)
    ways: dict[str, Constraint | None] = {"without": None, "with": constraint}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-1, asked.rounds):
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            rate = decode(engine, ways[name], asked.batch, asked.tokens, turn + 1)
            if turn >= 0:
                rates[name].append(rate)
    pairs = zip(rates["without"], rates["with"], strict=True)
    cost = median(1 - bound / free for free, bound in pairs)
    print(f"vocabulary {model.spec.vocab_size}, batch {asked.batch}, {asked.tokens} tokens each")
    print(f"  vocabulary read in {loaded_s * 1e3:.0f} ms")
    print(f"  schema compiled in {compiled_s * 1e3:.1f} ms")
    for name, found in rates.items():
        print(f"  {name:8} {median(found):8.0f} tokens/s ({min(found):.0f} to {max(found):.0f})")
    print(f"  cost     {cost:8.1%} (median of {asked.rounds} pairs)")


if __name__ == "__main__":
    main()
