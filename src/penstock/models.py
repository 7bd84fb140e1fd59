"""Where models are: the one shipped with penstock, and those that a user names."""

from __future__ import annotations

from pathlib import Path

EMBEDDED = "default"


def embedded_model() -> Path:
    """The folder of the embedded model, in an installed wheel or in a checkout."""
    here = Path(__file__).parent
    installed = here / "models" / EMBEDDED
    return installed if installed.is_dir() else here.parents[1] / "models" / EMBEDDED


def parse_model(text: str) -> tuple[str, Path]:
    """`NAME=FOLDER`, `FOLDER`, or nothing, as a served name and a folder."""
    if not text:
        return EMBEDDED, embedded_model()
    name, separator, folder = text.partition("=")
    if separator:
        return name, Path(folder)
    path = Path(text)
    return path.resolve().name, path
