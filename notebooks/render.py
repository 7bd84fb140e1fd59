"""Runs the notebooks and writes them with their outputs to docs/notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbclient
import nbformat

HERE = Path(__file__).parent
TARGET = HERE.parent / "docs" / "notebooks"


def main() -> None:
    TARGET.mkdir(exist_ok=True)
    for path in sorted(HERE.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        place = {"metadata": {"path": str(HERE)}}
        nbclient.NotebookClient(notebook, timeout=60, resources=place).execute()
        pieces = [piece for cell in notebook.cells for piece in _cell(cell, path.stem)]
        (TARGET / f"{path.stem}.md").write_text("\n\n".join(pieces) + "\n")


def _cell(cell: Any, name: str) -> Iterator[str]:  # noqa: ANN401  # a notebook's node
    if cell.cell_type == "markdown":
        yield cell.source
        return
    yield f"```python\n{cell.source}\n```"
    printed = "".join(output.text for output in cell.outputs if "text" in output)
    if printed.strip():
        yield f"```text\n{printed.rstrip()}\n```"
    for output in cell.outputs:
        data = output.get("data", {})
        if "text/html" in data:
            yield _picture(data["text/html"], f"{name}-{cell.id}")
        elif "text/plain" in data:
            yield f"```text\n{data['text/plain']}\n```"


def _picture(html: str, name: str) -> str:
    """A chart as a file of its own, with its style inside."""
    style, _, drawn = html.partition("</style>")
    head, _, rest = drawn.partition(">")
    whole = f'{head} xmlns="http://www.w3.org/2000/svg">{style}</style>{rest}\n'
    (TARGET / f"{name}.svg").write_text(whole)
    return f"![]({name}.svg)"


if __name__ == "__main__":
    main()
