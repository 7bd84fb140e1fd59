"""A setting comes from its flag, else the environment, else the file, else the default."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
import pytest

from penstock.cli.options import collect, settings_options
from penstock.settings import Settings

from .conftest import Invoke

NAMES = Settings.__struct_fields__


@click.command()
@settings_options()
def show(config: Path | None, **given: object) -> None:
    """Print the settings as JSON."""
    click.echo(msgspec.json.encode(collect(given, config)))


@click.command()
@settings_options("model", "slots")
def show_two(config: Path | None, **given: object) -> None:
    """Print the settings as JSON; only two can be given."""
    click.echo(msgspec.json.encode(collect(given, config)))


def shown(invoke: Invoke, *arguments: str) -> Settings:
    result = invoke(*arguments, command=show)
    assert result.exit_code == 0, result.output
    return msgspec.json.decode(result.output, type=Settings)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "penstock.toml"
    path.write_text('max-len = 100\nslots = 5\nqueue = 7\ndevice = "cpu"\nmodel = "there"\n')
    return str(path)


def test_flag_over_environment_over_file_over_default(
    invoke: Invoke, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_MAX_LEN", "200")
    monkeypatch.setenv("PENSTOCK_SLOTS", "6")
    assert shown(invoke, "--config", file, "--max-len", "300") == Settings(
        max_len=300, slots=6, queue=7, device="cpu", model=("there",)
    )


def test_zero_and_empty_are_values_like_any_other(
    invoke: Invoke, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_PORT", "0")
    asked = ("--config", file, "--max-len", "0", "--queue", "0", "--model", "", "--drain-s", "0")
    settings = shown(invoke, *asked)
    assert (settings.max_len, settings.queue, settings.drain_s, settings.port) == (0, 0, 0.0, 0)
    assert settings.model == ("",)


def test_the_file_itself_can_come_from_the_environment(
    invoke: Invoke, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_CONFIG", file)
    assert shown(invoke).slots == 5


def test_an_empty_variable_is_absent(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(f"PENSTOCK_{name.upper()}", "")
    assert shown(invoke) == Settings()


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_flag_a_variable_and_a_line_of_help(
    invoke: Invoke, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = f"--{name.replace('_', '-')}"
    default = getattr(Settings(), name)
    value, chosen = {
        "model": ("x", ("x",)),
        "host": ("x", "x"),
    }.get(name, ("true", True) if default is False else (str(default), default))
    expected = msgspec.structs.replace(Settings(), **{name: chosen})
    assert shown(invoke, *([flag] if chosen is True else [flag, value])) == expected
    monkeypatch.setenv(f"PENSTOCK_{name.upper()}", value)
    assert shown(invoke) == expected


def test_several_models_from_flags_a_variable_and_a_file(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown(invoke, "--model", "a=x,y", "--model", "b=z").model == ("a=x,y", "b=z")
    file = tmp_path / "two.toml"
    file.write_text('model = ["a=x", "b=y"]\n')
    assert shown(invoke, "--config", str(file)).model == ("a=x", "b=y")
    monkeypatch.setenv("PENSTOCK_MODEL", "a=x y,b=z")
    assert shown(invoke, "--config", str(file)).model == ("a=x y", "b=z")


def test_help_shows_every_setting_with_its_default(invoke: Invoke) -> None:
    text = " ".join(invoke("--help", command=show).output.split())
    for name, default in msgspec.structs.asdict(Settings()).items():
        flag = f"--{name.replace('_', '-')}"
        _, _, rest = text.replace(f"{flag} / --no-{flag[2:]} ", f"{flag} ").partition(f"{flag} ")
        told = {"model": "embedded", False: "off", True: "on"}.get(
            default if isinstance(default, bool) else name, default
        )
        assert rest.partition(" --")[0].count(f"[default: {told}]") == 1, name
    assert "--config" in text


def test_help_is_at_most_as_wide_as_the_group_says(invoke: Invoke) -> None:
    for command in ((), ("serve",), ("generate",), ("export",)):
        lines = invoke(*command, "--help").output.splitlines()
        assert 60 < max(map(len, lines)) <= 100


def test_only_the_named_settings_become_options(invoke: Invoke, file: str) -> None:
    assert invoke("--slots", "2", command=show_two).exit_code == 0
    assert invoke("--port", "2", command=show_two).exit_code == 2
    result = invoke("--config", file, command=show_two)
    assert msgspec.json.decode(result.output)["max_len"] == 100


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--port", "70000"], "Error: port: expected int <= 65535"),
        (["--slots", "0"], "Error: slots: expected int >= 1"),
        (["--heartbeat-s", "nan"], "Error: heartbeat_s: expected float > 0.0"),
        (["--port", "x"], "'--port': 'x' is not a valid integer"),
        (["--device", "gpu"], "'--device': 'gpu' is not one of 'auto', 'cpu', 'cuda'"),
        (["--config", "/none/here.toml"], "Error: cannot read /none/here.toml: No such file"),
        (["--config", "/"], "'--config': File '/' is a directory"),
        (["--no-such", "1"], "No such option '--no-such'"),
    ],
)
def test_a_bad_flag_is_one_line_with_its_name_and_exit_code_2(
    invoke: Invoke, arguments: list[str], told: str
) -> None:
    result = invoke(*arguments, command=show)
    assert result.exit_code == 2
    assert told in result.stderr.splitlines()[-1]
    assert result.stdout == ""


def test_a_bad_variable_is_named(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_SLOTS", "-3")
    result = invoke(command=show)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        2,
        "Error: slots: expected int >= 1",
    )


def test_a_bad_file_is_named_even_where_a_flag_would_win(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text("slots = 0")
    result = invoke("--config", str(path), "--slots", "4", command=show)
    assert result.exit_code == 2
    assert f"{path}: slots: expected int >= 1" in result.stderr
