"""Turn a safetensors checkpoint into an ONNX decoder that the engine can run.

Needs numpy and onnx, and no deep-learning framework. Knows nothing of serving.
"""

from dataclasses import dataclass
from pathlib import Path

from penstock.export.config import DecoderConfig
from penstock.export.decoder import PRECISIONS, decoder_model
from penstock.export.errors import ExportError
from penstock.export.files import all_or_nothing, copy_companions, refuse_occupied, write_model
from penstock.export.precision import Dtype
from penstock.export.weights import Checkpoint

__all__ = ["Dtype", "ExportError", "ExportReport", "export_model"]


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote; `bytes` counts the model itself, without the tokeniser's files."""

    dtype: Dtype
    parameters: int
    bytes: int


def export_model(source: Path, destination: Path, *, dtype: Dtype = "int8row") -> ExportReport:
    """Export the checkpoint in `source` to the new or empty directory `destination`.

    Raises ExportError, and leaves nothing behind, if the checkpoint is incomplete or damaged, if
    its architecture or `dtype` is not supported, or if `destination` is occupied.
    """
    if dtype not in PRECISIONS:
        raise ExportError(f"dtype {dtype!r} is not supported; supported: {', '.join(PRECISIONS)}")
    refuse_occupied(destination)
    config = DecoderConfig.read(source)
    model = decoder_model(config, Checkpoint.open(source), dtype)
    with all_or_nothing(destination) as partial:
        written = write_model(model, partial)
        copy_companions(source, partial)
    return ExportReport(dtype=dtype, parameters=config.parameters, bytes=written)
