"""Every knob, once. CLI flags, environment names, TOML keys and their documentation come from here.

Units stand in the names; bounds stand in the types and are checked wherever a value comes from.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

from penstock.device_settings import DeviceSettings

ENV_PREFIX = "PENSTOCK_"


class SettingsError(ValueError):
    """A setting that cannot be used; the message names it and its source."""


class Settings(DeviceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `penstock serve` runs with."""

    host: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port; 0 takes a free one.")] = 8000
    uds: Annotated[
        str, Meta(description="Path of a UNIX socket to listen on, instead of host and port.")
    ] = ""
    certfile: Annotated[
        str, Meta(description="PEM file with the certificate chain; turns TLS on.")
    ] = ""
    keyfile: Annotated[
        str, Meta(description="PEM file with the key, where the certificate's file has none.")
    ] = ""
    forwarded_allow_ips: Annotated[
        str,
        Meta(description="Proxies whose X-Forwarded headers are believed, with commas; * is all."),
    ] = ""
    cors_origins: Annotated[
        str,
        Meta(description="Origins whose pages may ask, with commas; * is all, empty is none."),
    ] = ""
    model: Annotated[
        tuple[str, ...],
        Meta(
            description="Model folder or .onnx file, or NAME=PATH; none is the embedded one. "
            "Repeat it for several models; requests without a model go to the first."
        ),
    ] = ()
    threads: Annotated[
        int, Meta(ge=0, le=1024, description="CPU threads for the model; 0 chooses.")
    ] = 0
    slots: Annotated[
        int, Meta(ge=1, le=4096, description="Sequences that the KV cache holds at once.")
    ] = 16
    queue: Annotated[
        int, Meta(ge=0, le=1_000_000, description="Requests that may wait for a slot.")
    ] = 64
    max_len: Annotated[
        int,
        Meta(ge=0, le=1 << 20, description="Tokens of prompt and answer; 0 is the model's own."),
    ] = 0
    kv_memory_fraction: Annotated[
        float,
        Meta(
            gt=0, le=1, description="Of the memory that is free, what KV may take without max_len."
        ),
    ] = 0.5
    lookahead: Annotated[
        int,
        Meta(ge=0, le=64, description="Tokens computed before the reader has asked for them."),
    ] = 1
    max_streams: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Open streams, with a slot or without.")
    ] = 1024
    park_grace_s: Annotated[
        float,
        Meta(ge=0, description="Seconds a stream may be parked before others can take its slot."),
    ] = 0.5
    parked_kv_bytes: Annotated[
        int, Meta(ge=0, description="Memory for the KV of streams that lost their slot, in bytes.")
    ] = 256 << 20
    prefix_cache_bytes: Annotated[
        int,
        Meta(ge=0, description="Memory for prompts that begin alike, in bytes; 0 shares none."),
    ] = 256 << 20
    prefill_chunk: Annotated[
        int, Meta(ge=1, le=65536, description="Prompt tokens computed between two decode steps.")
    ] = 128
    max_choices: Annotated[
        int, Meta(ge=1, le=128, description="Answers (n) that one request may ask for.")
    ] = 16
    grammar_compile_s: Annotated[
        float,
        Meta(gt=0, le=60, description="CPU seconds that compiling a schema may take."),
    ] = 2.0
    warmup: Annotated[
        bool, Meta(description="Run the model at every batch size before the port opens.")
    ] = False
    max_tokens: Annotated[
        int, Meta(ge=1, le=1 << 20, description="Tokens of a chat answer that names no limit.")
    ] = 256
    max_body_bytes: Annotated[
        int, Meta(ge=1024, description="Largest request body accepted, in bytes.")
    ] = 2 << 20
    job_window: Annotated[
        int, Meta(ge=1, le=1 << 20, description="Events a job makes ahead of its furthest reader.")
    ] = 256
    job_wall_s: Annotated[
        float, Meta(gt=0, description="Seconds that a job may take, all waiting included.")
    ] = 3600.0
    job_keep_s: Annotated[
        float, Meta(gt=0, description="Seconds that a job that ended or lacks acks is kept unread.")
    ] = 600.0
    resume_window_s: Annotated[
        float,
        Meta(ge=2, description="Seconds that /chat/stream and resumable sockets may be unread."),
    ] = 30.0
    max_jobs: Annotated[
        int, Meta(ge=1, le=10_000_000, description="Jobs kept at once, ended ones included.")
    ] = 10_000
    job_log_bytes: Annotated[
        int, Meta(ge=1 << 20, description="Memory reserved for the events of jobs, in bytes.")
    ] = 256 << 20
    heartbeat_s: Annotated[
        float, Meta(gt=0, description="Seconds of silence after which a stream shows life.")
    ] = 15.0
    stall_deadline_s: Annotated[
        float, Meta(gt=0, description="Seconds one write may block before its stream is ended.")
    ] = 30.0
    drain_s: Annotated[
        float, Meta(ge=0, description="Seconds that streams may finish in after a stop signal.")
    ] = 10.0
    min_drain_bytes_s: Annotated[
        float,
        Meta(ge=0, description="Slowest pace at which a stream may be read, in bytes a second."),
    ] = 16.0
    send_buffer_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 30,
            description="What the kernel may hold for one connection; 0 leaves it alone.",
        ),
    ] = 0
    dead_after_s: Annotated[
        float,
        Meta(
            ge=1,
            le=86_400,
            description="Seconds without a sign of life after which a network is dead.",
        ),
    ] = 20.0
    ping_interval_s: Annotated[
        float, Meta(gt=0, description="Seconds between pings; two unanswered ones end a peer.")
    ] = 20.0
    keep_alive_s: Annotated[
        float, Meta(gt=0, description="Seconds that a connection may be idle between requests.")
    ] = 75.0
    head_deadline_s: Annotated[
        float, Meta(gt=0, description="Seconds in which a request's head must arrive.")
    ] = 10.0
    body_deadline_s: Annotated[
        float, Meta(gt=0, description="Seconds in which a request's body must arrive.")
    ] = 60.0
    h2_max_streams: Annotated[
        int, Meta(ge=1, le=10_000, description="Requests at once on one HTTP/2 connection.")
    ] = 128
    log_format: Annotated[Literal["pretty", "json"], Meta(description="How log lines look.")] = (
        "pretty"
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least important log lines to write."),
    ] = "info"
    log_prompts: Annotated[
        bool, Meta(description="Write what was asked into the log line of each generation.")
    ] = False


def build(values: Mapping[str, Any], *, source: str = "") -> Settings:
    """Settings from loose values (numbers may be strings).

    Raises `SettingsError` that names the setting, and `source` if it is given.
    """
    several = {name: [value] for name, value in values.items() if _is_one_of_several(name, value)}
    try:
        return msgspec.convert({**values, **several}, Settings, strict=False)
    except msgspec.ValidationError as error:
        told = _explain(str(error))
        raise SettingsError(f"{source}: {told}" if source else told) from None


def describe(default: object) -> str:
    """A default as help and documentation tell it."""
    if default == () or default is False:
        return "off" if default is False else "embedded"
    return "on" if default is True else str(default)


def read_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings that are there as `PENSTOCK_<NAME>`."""
    names = {name: f"{ENV_PREFIX}{name.upper()}" for name in Settings.__struct_fields__}
    return {name: environ[given] for name, given in names.items() if given in environ}


def read_toml(path: Path) -> dict[str, Any]:
    """The table of a TOML file, with dashes in keys allowed. Raises `SettingsError`."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in Settings.__struct_fields__:
            raise SettingsError(f"{path}: there is no setting called {key}")
        if name in values:
            raise SettingsError(f"{path}: {name} is there twice, with - and with _")
        values[name] = value
    build(values, source=str(path))
    return values


def _is_one_of_several(name: str, value: object) -> bool:
    """Whether a string stands where a list of strings may stand."""
    return name == "model" and isinstance(value, str)


def _explain(message: str) -> str:
    """`Expected `int` >= 1 - at `$.slots`` -> `slots: expected int >= 1`."""
    what, _, where = message.replace("`", "").partition(" - at $.")
    if where.startswith("model"):
        where, what = "model", "expected a string or a list of strings"
    if what.startswith("Invalid enum value"):
        what = f"must be one of {', '.join(get_args(get_type_hints(Settings)[where]))}"
    return f"{where}: {what[:1].lower()}{what[1:]}" if where else what
