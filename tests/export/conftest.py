"""Random checkpoints, exported once for the whole session."""

from pathlib import Path

import pytest

from penstock.export import Dtype, export_model

from .checkpoints import TINY, Tensors, write_checkpoint


class Exported:
    """A tiny random checkpoint and its exports."""

    def __init__(self, root: Path, *, tied: bool) -> None:
        self.config = {**TINY, "tie_word_embeddings": tied}
        self.source = root / "source"
        self.tensors: Tensors = write_checkpoint(self.source, self.config)
        self._root = root

    def model(self, dtype: Dtype) -> Path:
        """The exported model.onnx, written at the first call."""
        directory = self._root / dtype
        if not directory.exists():
            export_model(self.source, directory, dtype=dtype)
        return directory / "model.onnx"


@pytest.fixture(scope="session", params=[True, False], ids=["tied", "untied"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("tiny"), tied=request.param)
