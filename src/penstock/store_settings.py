"""The knobs for where jobs are, and which processes run them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from penstock.access_settings import AccessSettings


class StoreSettings(AccessSettings, frozen=True, kw_only=True):
    """A store, and the part that this process has in it."""

    store: Annotated[
        str,
        Meta(description="Where jobs are: memory, or redis://[user:password@]host[:port][/db]."),
    ] = "memory"
    role: Annotated[
        Literal["all", "edge", "worker"],
        Meta(description="Accept and stream (edge), decode (worker), or both."),
    ] = "all"
    workers: Annotated[
        int, Meta(ge=1, le=256, description="Processes; more than one needs a shared store.")
    ] = 1
    lease_s: Annotated[
        float,
        Meta(ge=1, le=600, description="Seconds of silence after which others take a job over."),
    ] = 10.0
