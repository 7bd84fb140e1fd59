"""Measure a model folder on documents it was not trained on: nats a token by kind.

    python models/evaluate.py DATA_DIR MODEL_DIR [MODEL_DIR ...]
    python models/evaluate.py models/yardstick --code PACKAGE_DIR MODEL_DIR [MODEL_DIR ...]

DATA_DIR is what `train.py` was given, and --seed is as it was there: the documents are those that
it held back. With --code all of DATA_DIR is measured, and the Python files under that folder. The
model runs as it does when it serves: on ONNX Runtime, token by token with its KV cache.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import onnxruntime
import prep
from corpus import Corpus, Windows
from numpy.typing import NDArray
from tokenizers import Tokenizer

Floats = NDArray[np.float32]


class Model:
    """An exported graph and its cache, fed one token of every row at a time."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._session = onnxruntime.InferenceSession(folder / "model.onnx")
        self._outputs = [each.name for each in self._session.get_outputs()]
        told = json.loads((folder / "config.json").read_bytes())
        heads, width = told["num_key_value_heads"], told["head_dim"]
        empty = np.zeros((rows, heads, 0, width), np.float32)
        pasts = [each.name for each in self._session.get_inputs() if "past" in each.name]
        self._cache = dict.fromkeys(pasts, empty)
        self._length = 0

    def step(self, tokens: NDArray[np.int64]) -> Floats:
        """Log probabilities [rows, vocabulary] of what follows these tokens [rows]."""
        self._length += 1
        mask = np.ones((len(tokens), self._length), np.int64)
        fed = {"input_ids": tokens[:, None], "attention_mask": mask, **self._cache}
        logits, *cache = self._session.run(self._outputs, fed)
        self._cache = dict(zip(self._cache, cache, strict=True))
        return _log_softmax(logits[:, -1])


def _log_softmax(logits: Floats) -> Floats:
    shifted: Floats = logits - logits.max(-1, keepdims=True)
    summed: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return summed


def loss(folder: Path, windows: Windows) -> float:
    """Mean loss in nats over windows [n, width]."""
    model = Model(folder, len(windows))
    rows = np.arange(len(windows))
    steps = zip(windows[:, :-1].T, windows[:, 1:].T, strict=True)
    return -float(np.mean([model.step(fed)[rows, wanted] for fed, wanted in steps]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("model_dirs", type=Path, nargs="+")
    parser.add_argument("--code", type=Path, help="measure on this code and on all of DATA_DIR")
    parser.add_argument("--width", type=int, default=512, help="tokens in a window, 512")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.code:
        documents = prep.read_everything(options.data_dir, options.code, options.seed)
    else:
        _, documents = prep.read_documents(options.data_dir, {}, options.seed)
    for folder in options.model_dirs:
        tokeniser = Tokenizer.from_file(str(folder / "tokenizer.json"))
        everything = dict.fromkeys(prep.KINDS, 1.0)
        corpus = Corpus(tokeniser, (documents, documents), width=options.width + 1, mix=everything)
        for kind in prep.KINDS:
            windows = corpus.held_back(kind)
            nats = loss(folder, windows)
            told = f"{nats:.3f} nats a token, perplexity {math.exp(nats):.1f}"
            print(f"{folder} {kind:6} {told} ({windows.size} tokens)", flush=True)


if __name__ == "__main__":
    main()
