"""The knobs for where models run."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from penstock.store_settings import StoreSettings


class DeviceSettings(StoreSettings, frozen=True, kw_only=True):
    """A device, and how it is asked to run."""

    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        Meta(description="Where the model runs; auto is CUDA where it works, else the CPU."),
    ] = "auto"
    cuda_graphs: Annotated[
        int,
        Meta(
            ge=0,
            le=4096,
            description="On CUDA, steps of up to so many sequences are captured once and replayed; "
            "0 captures none.",
        ),
    ] = 0
