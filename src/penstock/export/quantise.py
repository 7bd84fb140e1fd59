"""Symmetric integers with a scale per row or per block. Plain arithmetic; knows no graph."""

import numpy as np
from numpy.typing import NDArray

from penstock.export.errors import ExportError

WEIGHT_LEVELS = 64
"""Weights span -64 to 64, a bit less than int8 holds.

CPUs without VNNI add two products of uint8 and int8 in 16 bits, saturating: 2 * 255 * 64 just
fits. So every CPU computes the same integers, for 0.0007 nats of the default model's loss.
"""

ACTIVATION_LEVELS = 127

_SMALLEST = np.float32(1e-30)


def quantise_weights(
    weights: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 [rows, columns] and scales [rows, 1]; their product is within scale / 2."""
    peaks = np.abs(weights).max(axis=1, keepdims=True)
    # A row of zeros would divide by zero.
    scales = np.maximum(peaks / np.float32(WEIGHT_LEVELS), _SMALLEST)
    return np.rint(weights / scales).astype(np.int8), scales


def quantise_blocks(
    weights: NDArray[np.float32], *, bits: int, block: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return uint8 [rows, blocks, block * bits / 8] and scales [rows, blocks].

    Stored numbers are around 2 ** (bits - 1); two of 4 bits share a byte, the earlier one below.
    """
    rows, columns = weights.shape
    if columns % block:
        raise ExportError(f"a matrix {columns} wide cannot be split into blocks of {block}")
    parts = weights.reshape(rows, -1, block)
    scales = _block_scales(parts, bits)
    middle, top = 2 ** (bits - 1), 2**bits - 1
    values = np.clip(np.rint(parts / scales[..., None]) + middle, 0, top).astype(np.uint8)
    packed = values if bits == 8 else values[..., 0::2] | values[..., 1::2] << 4
    return packed, scales


def _block_scales(parts: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """The largest number of a block, with its sign, becomes the lowest integer.

    That integer has no positive twin, so this uses the whole range where one half would be a step
    short of it.
    """
    places = np.abs(parts).argmax(axis=2, keepdims=True)
    peaks = np.take_along_axis(parts, places, axis=2)[..., 0]
    scales = peaks / np.float32(-(2 ** (bits - 1)))
    return np.where(np.abs(scales) < _SMALLEST, _SMALLEST, scales)
