"""Settings from anywhere: right, or refused by name, with the file they came from."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from penstock.settings import Settings, SettingsError, build, read_toml

NAMES = Settings.__struct_fields__
OUTSIDE: dict[str, list[object]] = {
    "port": [-1, 65536],
    "threads": [-1, 1025],
    "slots": [0, 4097],
    "queue": [-1, 1_000_001],
    "max_len": [-1, (1 << 20) + 1],
    "lookahead": [-1, 65],
    "prefill_chunk": [0, 65537],
    "max_tokens": [0, (1 << 20) + 1],
    "max_streams": [0, 1_000_001],
    "max_choices": [0, 129],
    "max_streams_per_client": [-1, 1_000_001],
    "metrics_port": [-1, 65536],
    "tokens_per_minute": [-1],
    "queue_deadline_s": [-1, float("nan")],
    "total_deadline_s": [-1, float("nan")],
    "park_grace_s": [-1, float("nan")],
    "parked_kv_bytes": [-1],
    "prefix_cache_bytes": [-1],
    "max_body_bytes": [1023],
    "heartbeat_s": [0, -1, float("nan")],
    "stall_deadline_s": [0, -1, float("nan")],
    "grammar_compile_s": [0, 61, float("nan")],
    "drain_s": [-0.1, float("nan")],
    "workers": [0, 257],
    "lease_s": [0.9, 601, float("nan")],
    "cuda_graphs": [-1, 4097],
    "job_window": [0, (1 << 20) + 1],
    "job_wall_s": [0, -1, float("nan")],
    "job_keep_s": [0, -1, float("nan")],
    "kv_memory_fraction": [0, 1.01, -1, float("nan")],
    "resume_window_s": [1.9, -1, float("nan")],
    "max_jobs": [0, 10_000_001],
    "job_log_bytes": [(1 << 20) - 1],
    "min_drain_bytes_s": [-1, float("nan")],
    "send_buffer_bytes": [-1, (1 << 30) + 1],
    "dead_after_s": [0.9, 86_401, float("nan")],
    "ping_interval_s": [0, float("nan")],
    "keep_alive_s": [0, float("nan")],
    "head_deadline_s": [0, float("nan")],
    "body_deadline_s": [0, float("nan")],
    "h2_max_streams": [0, 10_001],
}
LEAST: dict[str, object] = {
    "port": 0, "threads": 0, "slots": 1, "queue": 0, "max_len": 0, "lookahead": 0,
    "prefill_chunk": 1, "max_tokens": 1, "max_body_bytes": 1024, "heartbeat_s": 0.001,
    "stall_deadline_s": 0.001, "drain_s": 0, "max_streams": 1, "park_grace_s": 0,
    "max_choices": 1, "max_streams_per_client": 0, "parked_kv_bytes": 0, "prefix_cache_bytes": 0,
    "workers": 1, "lease_s": 1, "cuda_graphs": 0, "job_window": 1, "job_wall_s": 0.001,
    "job_keep_s": 0.001, "resume_window_s": 2,
    "max_jobs": 1, "job_log_bytes": 1 << 20, "min_drain_bytes_s": 0,
    "send_buffer_bytes": 0, "dead_after_s": 1, "ping_interval_s": 0.001, "keep_alive_s": 0.001,
    "head_deadline_s": 0.001, "body_deadline_s": 0.001, "h2_max_streams": 1,
    "grammar_compile_s": 0.001, "kv_memory_fraction": 0.001,
    "metrics_port": 0, "tokens_per_minute": 0, "queue_deadline_s": 0, "total_deadline_s": 0,
}  # fmt: skip


def refused(values: dict[str, object]) -> str:
    with pytest.raises(SettingsError) as caught:
        build(values)
    assert "\n" not in str(caught.value)
    assert "`" not in str(caught.value)
    return str(caught.value)


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "penstock.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_nothing_given_is_the_defaults() -> None:
    assert build({}) == Settings()


def test_numbers_may_be_strings() -> None:
    given = {"port": "0", "slots": "3", "heartbeat_s": "1.5", "max_len": 512}
    assert build(given) == Settings(port=0, slots=3, heartbeat_s=1.5, max_len=512)


def test_the_least_value_of_each_setting_is_accepted() -> None:
    assert msgspec.structs.asdict(build(LEAST)).items() >= LEAST.items()


def test_every_setting_with_bounds_is_in_the_table_below() -> None:
    described = msgspec.inspect.type_info(Settings)
    assert isinstance(described, msgspec.inspect.StructType)
    numbers = {
        field.name
        for field in described.fields
        if isinstance(field.type, msgspec.inspect.Metadata)
        and isinstance(field.type.type, msgspec.inspect.IntType | msgspec.inspect.FloatType)
    }
    assert numbers == set(OUTSIDE) == set(LEAST)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_value_out_of_bounds_is_refused_with_the_bound(name: str) -> None:
    for value in OUTSIDE[name]:
        assert refused({name: value}).startswith(f"{name}: expected "), value
        assert refused({name: str(value)}).startswith(f"{name}: expected "), value


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_number_is_no_truth_value_list_or_word(name: str) -> None:
    others: list[object] = [True, [1], {}, "x", "", None]
    for value in others:
        assert refused({name: value}).startswith(f"{name}: expected "), value


def test_a_choice_is_refused_with_the_choices() -> None:
    assert refused({"device": "gpu"}) == "device: must be one of auto, cpu, cuda"
    assert refused({"log_format": "xml"}).startswith("log_format: must be one of ")


def test_a_wait_may_be_without_end() -> None:
    assert build({"heartbeat_s": "inf"}).heartbeat_s == float("inf")


def test_an_unknown_setting_is_named() -> None:
    assert "no_such" in refused({"no_such": 1})


def test_the_source_is_named_if_it_is_given() -> None:
    with pytest.raises(SettingsError, match=r"^the test: slots: expected int >= 1$"):
        build({"slots": 0}, source="the test")


def test_settings_do_not_change() -> None:
    with pytest.raises(AttributeError):
        Settings().port = 1  # type: ignore[misc]  # that it is refused is the point


def test_toml_takes_dashes_and_underscores(tmp_path: Path) -> None:
    path = write(tmp_path, 'max-len = 512\nheartbeat_s = 2\nmodel = "a=b"\n# a comment\n')
    assert read_toml(path) == {"max_len": 512, "heartbeat_s": 2, "model": "a=b"}
    assert build(read_toml(path)) == Settings(max_len=512, heartbeat_s=2.0, model=("a=b",))


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert read_toml(write(tmp_path, "")) == {}


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_can_stand_in_a_file(tmp_path: Path, name: str) -> None:
    default = getattr(Settings(), name)
    value = json.dumps(default)
    path = write(tmp_path, f"{name.replace('_', '-')} = {value}")
    assert build(read_toml(path)) == Settings()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no-such = 1", "there is no setting called no-such"),
        ("[serve]\nport = 1", "there is no setting called serve"),
        ("max-len = 1\nmax_len = 2", "max_len is there twice"),
        ("slots = 0", "slots: expected int >= 1"),
        ("slots = true", "slots: expected int, got bool"),
        ("slots = 2.5", "slots: expected int"),
        ("heartbeat-s = nan", "heartbeat_s: expected float > 0"),
        ("port = 1979-05-27", "port: expected int"),
        ("model = [1]", "model: expected a string or a list of strings"),
        ("warmup = 2", "warmup: expected bool"),
        ("model = {a = 1}", "model: expected a string or a list of strings"),
        ('device = "gpu"', "device: must be one of auto, cpu, cuda"),
        ("port =", "is not TOML"),
        ("port = 1\nport = 2", "is not TOML"),
        ("a" * 2000, "is not TOML"),
        ("port = " + "[" * 10_000, "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
    ],
)
def test_a_bad_file_is_refused_with_its_path(tmp_path: Path, text: str | bytes, told: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        read_toml(path)
    assert str(caught.value).startswith(str(path))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.toml", tmp_path / ("x" * 300)):
        with pytest.raises(SettingsError, match=r"^cannot read .*: "):
            read_toml(path)
