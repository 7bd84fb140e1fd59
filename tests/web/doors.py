"""An app that asks for keys, and clients that have some."""

from __future__ import annotations

from pathlib import Path

from penstock.access.keys import Key, digest_of, write_keys
from penstock.access.ring import KeyRing
from penstock.build import assemble
from penstock.engine.engine import Engine
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import build
from penstock.web.app import App
from penstock.web.door import Door
from tests.peers import make_engine

ANN, BEN, ROOT = (f"sk-penstock-{name}" for name in ("ann", "ben", "root"))


def make_key(secret: str, **allowed: object) -> Key:
    name = secret.rpartition("-")[2]
    return Key(name=name, digest=digest_of(secret), **allowed)  # type: ignore[arg-type]


def make_ring(folder: Path, **of_ann: object) -> KeyRing:
    """Ann may do what is said here, Ben anything, and Root is an admin."""
    path = folder / "keys.json"
    write_keys(path, [make_key(ANN, **of_ann), make_key(BEN), make_key(ROOT, admin=True)])
    return KeyRing(path)


def make_locked_app(
    model: Model,
    tokenizer: Tokenizer,
    keys: KeyRing,
    *,
    engine: Engine | None = None,
    **settings: object,
) -> App:
    given = {"slots": 4, "queue": 8} | settings
    engine = engine or make_engine(model, slots=int(str(given["slots"])))
    return App(assemble(build(given), "default", engine, tokenizer), Door(keys))


def bearer(secret: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {secret}".encode("latin-1")
