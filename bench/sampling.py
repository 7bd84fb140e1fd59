"""Drawing tokens, beside ONNX Runtime's TopK over the same logits: `python bench/sampling.py`.

TopK in the graph would spare nothing but the difference of the two, and only where a request's
parameters leave no more than the k largest in play.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from penstock.engine.sampling import Draw, sample
from penstock.requests import Sampling

WAYS = {
    "greedy": Sampling(temperature=0),
    "temperature": Sampling(),
    "top_k 40": Sampling(top_k=40),
    "top_p 0.9": Sampling(top_p=0.9),
    "top_k 40, top_p 0.9": Sampling(top_k=40, top_p=0.9),
}
K = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab", type=int, nargs="+", default=[4096, 151_936])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    print(f"medians of {options.rounds}, in milliseconds for all rows")
    for vocab in options.vocab:
        for rows in options.rows:
            measure(vocab, rows, options.rounds)


def measure(vocab: int, rows: int, rounds: int) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (rows, vocab)).astype(np.float32)
    ways: dict[str, Callable[[], object]] = {
        name: partial(sample, logits, [Draw(how, row, 3) for row in range(rows)])
        for name, how in WAYS.items()
    }
    session = top_k_session(vocab)
    ways[f"TopK {K} in a graph"] = partial(session.run, None, {"logits": logits})
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - started)
    told = ", ".join(f"{name} {median(times) * 1e3:.2f}" for name, times in taken.items())
    print(f"vocab {vocab}, rows {rows}: {told}")


def top_k_session(vocab: int) -> ort.InferenceSession:
    node = helper.make_node("TopK", ["logits", "k"], ["values", "ids"], axis=-1)
    graph = helper.make_graph(
        [node],
        "top_k",
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", vocab])],
        [
            helper.make_tensor_value_info("values", TensorProto.FLOAT, ["rows", K]),
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows", K]),
        ],
        [helper.make_tensor("k", TensorProto.INT64, [1], [K])],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
