"""Turn a folder of documents into tokens: reading, holding back, formats, the tokeniser.

Knows nothing of the network that will be trained. Documents are of four kinds:

- story: the ``text`` of a JSON line, in pieces of at most 6,000 characters;
- asked: a short story again, as the answer to somebody who asks for one;
- chat:  the ``messages`` of a JSON line;
- code:  Python's standard library, every second piece as fill-in-the-middle.
"""

import collections
import fnmatch
import hashlib
import json
import random
import re
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

Tokens = NDArray[np.uint16]
Parts = dict[str, list[str]]
"""Documents by kind."""

KINDS = ("story", "asked", "chat", "code")
ROLES = ("system", "user", "assistant")

START, END = "<|endoftext|>", "<|end|>"
FIM = {"prefix": "<|fim_prefix|>", "suffix": "<|fim_suffix|>", "middle": "<|fim_middle|>"}
SPECIAL = (START, *(f"<|{role}|>" for role in ROLES), END, *FIM.values())
START_ID, END_ID = SPECIAL.index(START), SPECIAL.index(END)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] in ('system', 'user', 'assistant') %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] }}"
    "{% for c in m['tool_calls'] %}{{ c['function'] | tojson }}{% endfor %}<|end|>"
    "{% elif m['role'] == 'tool' %}{{ '<|user|>' + m['content'] + '<|end|>' }}"
    "{% else %}{{ raise_exception('this model knows the roles system, user, assistant and tool') }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

STORY_PIECE, CODE_PIECE, MIDDLE = 6000, 3000, 400
ASKED_AT_MOST = 3000
HELD_BACK_ONE_IN = 100
TOKENISER_SAMPLE = 12_000

_SPECIAL_PATTERN = re.compile("|".join(map(re.escape, SPECIAL)))
_QUOTES = str.maketrans("“”‘’", "\"\"''")
_NOT_OURS = {"site-packages", "test", "tests", "idlelib", "encodings", "pydoc_data", "lib2to3"}


class TrainError(Exception):
    """Bad input; the text says what to change."""


def read_documents(folder: Path, repeats: Mapping[str, float], seed: int) -> tuple[Parts, Parts]:
    """Read what lies under `folder`, and the standard library: for training and for validation.

    One document in a hundred is held back by its content, so no copy of it is trained on.
    """
    if not folder.is_dir():
        raise TrainError(f"there is no folder {folder}")
    rng = random.Random(seed)
    training: Parts = {kind: [] for kind in KINDS}
    validation: Parts = {kind: [] for kind in KINDS}
    for file in sorted(folder.rglob("*.jsonl")):
        times = next((n for glob, n in repeats.items() if fnmatch.fnmatch(file.name, glob)), 1)
        for source, kind, text in _documents(file, rng):
            if _is_held_back(source, seed):
                validation[kind].append(text)
            else:
                training[kind] += [text] * int(times)
    if not any(training.values()):
        raise TrainError(f'no documents: no *.jsonl line with "text" or "messages" under {folder}')
    for text in _code(Path(sysconfig.get_path("stdlib")), rng):
        (validation if _is_held_back(text.encode(), seed) else training)["code"].append(text)
    for texts in training.values():
        rng.shuffle(texts)
    return training, validation


def read_everything(folder: Path, code: Path, seed: int) -> Parts:
    """Read what lies under `folder`, and the Python files under `code`, to measure on."""
    rng = random.Random(seed)
    parts: Parts = {kind: [] for kind in KINDS}
    for file in sorted(folder.rglob("*.jsonl")):
        for _, kind, text in _documents(file, rng):
            parts[kind].append(text)
    parts["code"] += _code(code, rng)
    return parts


def _is_held_back(source: bytes, seed: int) -> bool:
    digest = hashlib.sha256(b"%d " % seed + source.strip()).digest()
    return int.from_bytes(digest[:4], "big") % HELD_BACK_ONE_IN == 0


def train_tokeniser(documents: Parts, vocab: int, seed: int) -> Tokenizer:
    """Train a byte-level BPE on a sample of all kinds."""
    tokeniser = Tokenizer(models.BPE())
    tokeniser.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokeniser.decoder = decoders.ByteLevel()
    texts = [text for kind in KINDS for text in documents[kind]]
    sample = random.Random(seed).sample(texts, min(len(texts), TOKENISER_SAMPLE))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokeniser.train_from_iterator((_SPECIAL_PATTERN.sub("\n", each) for each in sample), trainer)
    return tokeniser


def encode(tokeniser: Tokenizer, texts: list[str]) -> Tokens:
    """Join documents into one array, each behind its start token."""
    parts = [np.empty(0, np.uint16)]
    for start in range(0, len(texts), 1000):
        encodings = tokeniser.encode_batch(texts[start : start + 1000])
        parts += [np.array([START_ID, *each.ids], np.uint16) for each in encodings]
    return np.concatenate(parts)


def tokeniser_config() -> dict[str, Any]:
    """What a server needs to know beside tokenizer.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": START,
        "eos_token": START,
        "add_bos_token": True,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
        "fim": {**FIM, "order": "prefix, suffix, middle"},
    }


def fingerprint(parts: Iterable[Parts]) -> str:
    """Equal documents in equal order give equal text here; anything else does not."""
    digest = hashlib.sha256()
    for part in parts:
        for kind in KINDS:
            for text in part[kind]:
                digest.update(kind.encode() + b"\0" + text.encode("utf-8", "replace") + b"\0")
    return digest.hexdigest()


def _documents(file: Path, rng: random.Random) -> Iterator[tuple[bytes, str, str]]:
    """Give source, kind and text; one source may become several texts."""
    for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
        if line.strip():
            try:
                for kind, text in _of_line(json.loads(line), rng):
                    yield line, kind, text
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise TrainError(f"{file}, line {number}: {error}") from error


def _of_line(row: Mapping[str, Any], rng: random.Random) -> Iterator[tuple[str, str]]:
    if "messages" in row:
        yield "chat", _chat((each["role"], each["content"]) for each in row["messages"])
        return
    if "text" not in row:
        raise ValueError('it has neither "text" nor "messages"')
    text = _clean(row["text"])
    for start in range(0, len(text), STORY_PIECE):
        yield "story", text[start : start + STORY_PIECE]
    if len(text) <= ASKED_AT_MOST:
        yield "asked", _chat([("user", _wish(text, rng)), ("assistant", text)])


def _clean(text: str) -> str:
    """Plain quotes, single blank lines, and nothing that would read as a special token."""
    text = _SPECIAL_PATTERN.sub("", text.replace("\r\n", "\n").translate(_QUOTES))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _chat(turns: Iterable[tuple[str, str]]) -> str:
    rendered = []
    for role, content in turns:
        if role not in ROLES:
            raise ValueError(f"role {role!r} is none of {', '.join(ROLES)}")
        rendered.append(f"<|{role}|>{_clean(content)}{END}")
    return "".join(rendered)


_CREATURE = (
    "bear|bird|boat|boy|bunny|butterfly|cat|dog|dragon|duck|elephant|fish|fox|frog|girl|horse|king|"
    "lion|monkey|mouse|prince|princess|queen|rabbit|robot|tree|turtle|wolf"
)
_SUBJECT = re.compile(rf"\b(?:an?|the) (?:little |big |old |young )?({_CREATURE})\b")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+\b")
_WISHES = ("Tell me a story{}.", "Write a short story{}.", "Can you tell me a story{}?")


def _wish(story: str, rng: random.Random) -> str:
    """Ask for this story: by its animal, by its hero's name, or just for a story."""
    subject, names = _SUBJECT.search(story), collections.Counter(_NAME.findall(story))
    abouts = [""]
    if subject:
        abouts.append(f" about a {subject[1]}")
    if names:
        abouts.append(f" about {names.most_common(1)[0][0]}")
    return rng.choice(_WISHES).format(rng.choice(abouts))


def _code(root: Path, rng: random.Random) -> Iterator[str]:
    for file in sorted(root.rglob("*.py")):
        if _NOT_OURS.isdisjoint(file.relative_to(root).parts):
            text = _SPECIAL_PATTERN.sub("", file.read_text(encoding="utf-8", errors="ignore"))
            for start in range(0, len(text), CODE_PIECE):
                piece = text[start : start + CODE_PIECE]
                yield _with_gap(piece, rng) if rng.random() < 0.5 else piece


def _with_gap(piece: str, rng: random.Random) -> str:
    start = rng.randrange(len(piece))
    end = rng.randrange(start, min(start + MIDDLE, len(piece))) + 1
    gaps = {"prefix": piece[:start], "suffix": piece[end:], "middle": piece[start:end]}
    return "".join(FIM[name] + gaps[name] for name in FIM) + END
