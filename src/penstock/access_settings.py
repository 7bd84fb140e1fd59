"""The knobs for who may ask, and how much: the first part of the settings."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class AccessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Keys, what needs none, and limits that hold for everybody."""

    keys: Annotated[
        str, Meta(description="File of API keys, as `penstock keys` keeps it; empty asks for none.")
    ] = ""
    allow_anonymous: Annotated[
        bool, Meta(description="Listen without keys on addresses that others can reach.")
    ] = False
    open_pages: Annotated[
        bool, Meta(description="Show GET / and /static/ without a key: a browser can send none.")
    ] = True
    metrics_port: Annotated[
        int,
        Meta(ge=0, le=65535, description="Port for /metrics alone; 0 leaves it with the others."),
    ] = 0
    metrics_host: Annotated[str, Meta(description="Address for `metrics_port`.")] = "127.0.0.1"
    max_streams_per_client: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="Open streams of one client; 0 sets no limit."),
    ] = 0
    tokens_per_minute: Annotated[
        int,
        Meta(ge=0, description="Tokens a minute of all clients together; 0 sets no limit."),
    ] = 0
    queue_deadline_s: Annotated[
        float, Meta(ge=0, description="Seconds a request may wait for a slot; 0 sets no limit.")
    ] = 0.0
    total_deadline_s: Annotated[
        float,
        Meta(ge=0, description="Seconds a request may take, jobs aside; 0 sets no limit."),
    ] = 0.0
