"""Tries one grammar from outside, as a process of its own that may be killed at any time.

Not imported: `grammar_trial.py` runs this file with the path of llguidance's library, which it
loads directly; so starting takes 15 ms where importing the packages takes 50. It compiles over
bytes instead of the model's vocabulary and walks a few steps; what it answers on stdout is empty,
or what is wrong. The small stack makes overflows come up here, where the server's is larger.
"""

from __future__ import annotations

import json
import os
import random
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

STEPS = 24
STACK_BYTES = 1 << 20
MEMORY_BYTES = 1 << 30
EOS = 256


class Bytes:
    """A vocabulary of single bytes, as llguidance asks for one."""

    is_tokenizer_wrapper = True
    eos_token_id = EOS
    bos_token_id = None
    special_token_ids = (EOS,)
    tokens = (*(bytes([byte]) for byte in range(256)), b"<eos>")

    def __call__(self, text: str) -> list[int]:
        return list(text.encode())


def load(path: str) -> ModuleType:
    loader = ExtensionFileLoader("llguidance._lib", path)
    spec = spec_from_file_location("llguidance._lib", path, loader=loader)
    assert spec is not None
    library = module_from_spec(spec)
    loader.exec_module(library)
    return library


def confine(cpu_s: int) -> None:
    """Take little, where the system knows such limits; the parent's deadline holds everywhere."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_STACK, (STACK_BYTES, STACK_BYTES))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)


def attempt(library: Any, asked: dict[str, Any]) -> str:  # noqa: ANN401  # a module
    """What is wrong with the grammar, or nothing."""
    tokens = library.LLTokenizer(Bytes(), n_vocab=asked["vocab_size"], slices=[])
    limits = library.LLParserLimits(**asked["limits"])
    matcher = library.LLMatcher(tokens, asked["grammar"], log_level=0, limits=limits)
    choose = random.Random(0).choice
    for _ in range(STEPS):
        if matcher.is_error() or matcher.is_stopped():
            break
        mask = int.from_bytes(matcher.compute_bitmask(), "little")
        allowed = [token_id for token_id in range(EOS) if mask >> token_id & 1]
        if not allowed:
            break
        matcher.consume_token(choose(allowed))
    return str(matcher.get_error())


def main() -> None:
    asked = json.load(sys.stdin)
    library = load(sys.argv[1])
    confine(asked["cpu_s"])
    sys.stdout.write(attempt(library, asked))


if __name__ == "__main__":
    main()
