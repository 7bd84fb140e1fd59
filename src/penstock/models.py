"""Where models are: the one shipped with penstock, and those that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

EMBEDDED = "default"


def embedded_model() -> Path:
    """The folder of the embedded model, in an installed wheel or in a checkout."""
    here = Path(__file__).parent
    installed = here / "models" / EMBEDDED
    return installed if installed.is_dir() else here.parents[1] / "models" / EMBEDDED


def parse_models(texts: Sequence[str]) -> dict[str, Path]:
    """Folders by served name, the embedded model if there is none. Raises `ValueError`."""
    found: dict[str, Path] = {}
    for name, folder in map(parse_model, [text for text in texts if text] or [""]):
        if name in found:
            raise ValueError(f"two models are called {name}; name them with --model NAME=PATH")
        found[name] = folder
    return found


def parse_model(text: str) -> tuple[str, Path]:
    """`NAME=FOLDER`, `FOLDER`, or nothing, as a served name and a folder. Raises `ValueError`.

    The path of one .onnx file is good for a folder; the name is then that of its folder.
    """
    if not text:
        return EMBEDDED, embedded_model()
    name, separator, folder = (part.strip() for part in text.partition("="))
    if separator and not (name and folder):
        raise ValueError(f"--model {text} has no name or no path; it is NAME=PATH, or PATH alone")
    if separator:
        return name, Path(folder)
    return _name_of(Path(text)), Path(text)


def _name_of(path: Path) -> str:
    folder = path.parent if path.suffix == ".onnx" else path
    above = folder.parent if path.suffix == ".onnx" and folder.name == "onnx" else folder
    return above.resolve().name
