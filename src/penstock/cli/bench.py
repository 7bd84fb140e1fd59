"""`penstock bench`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
import trio

from penstock import __version__
from penstock.cli.kinds import Extra, LengthsType, Number
from penstock.cli.progress import Progress
from penstock.errors import reraise_single
from penstock.loadgen import html, text
from penstock.loadgen.departures import DepartureError
from penstock.loadgen.dialect import Dialect
from penstock.loadgen.fetch import FetchError
from penstock.loadgen.figures import Slo
from penstock.loadgen.isolation import Trial, neighbours_of
from penstock.loadgen.lengths import FORMS
from penstock.loadgen.plan import Mix, Shape
from penstock.loadgen.reader import Habits
from penstock.loadgen.result import Result
from penstock.loadgen.runner import Load
from penstock.loadgen.session import Asked, Session, Tries, first_model
from penstock.loadgen.wire import Target, TargetError, connector, parse_url

F = TypeVar("F", bound=Callable[..., Any])


def _seconds(name: str, default: float, text: str, *, least: float = 0.0) -> Callable[[F], F]:
    kind = Number(least)
    return click.option(name, type=kind, default=default, show_default=True, help=text)


def _lengths(name: str, default: str, text: str) -> Callable[[F], F]:
    return click.option(name, type=LengthsType(), default=default, show_default=True, help=text)


def _part(name: str, text: str) -> Callable[[F], F]:
    return click.option(name, type=Number(0, 1), default=0.0, help=text)


@click.command()
@click.argument("url")
@click.option(
    "--measure",
    type=click.Choice(["load", "isolation", "departures"]),
    multiple=True,
    default=["load"],
    show_default=True,
    help="What to measure; repeat it for several.",
)
@click.option("--rate", type=Number(0.001), help="Requests a second, Poisson.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    default=8,
    show_default=True,
    help="Streams at once, where no --rate is given; readers, for isolation.",
)
@_seconds("--duration-s", 30, "Seconds that are measured.", least=0.1)
@_seconds("--warmup-s", 2, "Seconds before them that count for nothing.")
@_seconds("--drain-s", 30, "Seconds that the last requests may take to end.")
@_lengths("--prompt", "32", f"Words of prompts: {FORMS}.")
@_lengths("--output", "128", "Tokens of answers, likewise.")
@_part("--slow", "Part of the readers that read --slow-bytes-s.")
@_part("--stopped", "Part that stops reading after its first token.")
@_part("--leaving", "Part that leaves in the middle.")
@_seconds("--slow-bytes-s", 1000, "Bytes a second of a slow reader.", least=1)
@_seconds("--hold-s", 10, "Seconds that a stopped one holds on, then leaves.")
@click.option(
    "--stopped-tokens",
    type=click.IntRange(1),
    default=900,
    show_default=True,
    help="Tokens of a stopped reader's answer: more than buffers can hide.",
)
@_lengths("--leaves-after", "uniform:1,32", "Pieces after which one leaves.")
@click.option(
    "--neighbours",
    type=click.IntRange(1, 10_000),
    default=8,
    show_default=True,
    help="Neighbours of the readers, for isolation: all stopped, or as --slow … --leaving say.",
)
@click.option("--pairs", type=click.IntRange(1, 1000), default=3, show_default=True)
@_seconds("--phase-s", 5, "Seconds of a phase, alone or among neighbours.", least=0.1)
@_seconds("--settle-s", 2, "Seconds before each phase that count for nothing.")
@click.option(
    "--tries",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Departures of each kind to watch.",
)
@click.option(
    "--process", type=click.IntRange(1), help="The server's process id, to see its CPU time."
)
@_seconds("--slo-ttft-s", 1.0, "Seconds to a first token that are good enough.")
@_seconds("--slo-tpot-s", 0.1, "Seconds a token after it that are.")
@_seconds("--patience-s", 120, "Seconds after which a request is given up.")
@click.option("--text", "shape", flag_value="text", help="Ask for text completions.")
@click.option("--chat", "shape", flag_value="chat", default=True, help="For chat.  [default]")
@click.option("--model", help="Model to ask for.  [default: the first one listed]")
@click.option("--extra", type=Extra(), default="{}", help="JSON fields for each request.")
@click.option("--api-key", envvar="OPENAI_API_KEY", help="Sent as a bearer token.")
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same load.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write all of it.")
@click.option("--html", "html_path", type=click.Path(path_type=Path), help="Write a page.")
def bench(url: str, json_path: Path | None, html_path: Path | None, **given: Any) -> None:  # noqa: ANN401  # options
    """Put load on the OpenAI-compatible server at URL, and say what its readers got.

    Latencies count from when a request should have begun; what fails is counted, never left out;
    and the load generator tells what it cost itself.
    """
    mix = Mix(given["slow"], given["stopped"], given["leaving"])
    if mix.reader < -1e-9:
        raise click.UsageError("--slow, --stopped and --leaving are more than 1 together")
    _lift_limit()
    try:
        result = trio.run(partial(_run, url, parse_url(url), mix, given))
    except TargetError as error:
        raise click.UsageError(str(error)) from None
    except BaseExceptionGroup as group:
        _explain(group)
    except (FetchError, DepartureError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(text.render(result), nl=False)
    _write(json_path, msgspec.json.format(msgspec.json.encode(result)))
    _write(html_path, html.render(result).encode())


async def _run(url: str, target: Target, mix: Mix, given: dict[str, Any]) -> Result:
    connect = await connector(target)
    key = given["api_key"]
    headers = [
        ("accept", "text/event-stream"),
        ("content-type", "application/json"),
        ("connection", "close"),
        ("user-agent", f"penstock-bench/{__version__}"),
        *([("authorization", f"Bearer {key}")] if key else []),
    ]
    model = given["model"] or await first_model(target, connect, headers)
    asked = Asked(
        target=target,
        dialect=Dialect(given["shape"], model, given["extra"]),
        headers=headers,
        shape=Shape(
            given["prompt"], given["output"], given["stopped_tokens"], given["leaves_after"]
        ),
        habits=Habits(given["patience_s"], given["slow_bytes_s"], given["hold_s"]),
        slo=Slo(given["slo_ttft_s"], given["slo_tpot_s"]),
        seed=given["seed"],
        **_parts(mix, given),
    )
    with Progress() as progress:
        return await Session(asked, connect, progress.show).run(url, command_line())


def _parts(mix: Mix, given: dict[str, Any]) -> dict[str, Any]:
    """What is measured; the rest is None."""
    load = Load(
        duration_s=given["duration_s"],
        warmup_s=given["warmup_s"],
        drain_s=given["drain_s"],
        rate=given["rate"],
        concurrency=given["concurrency"],
        mix=mix,
    )
    trial = Trial(
        readers=given["concurrency"],
        neighbours=neighbours_of(mix, given["neighbours"]),
        pairs=given["pairs"],
        settle_s=given["settle_s"],
        phase_s=given["phase_s"],
    )
    tries = Tries(given["tries"], process=given["process"])
    parts = {"load": load, "isolation": trial, "departures": tries}
    names = {"load": "load", "isolation": "trial", "departures": "tries"}
    return {names[part]: parts[part] for part in given["measure"]}


def command_line() -> list[str]:
    """The command line, without what may be a secret."""
    words = list(sys.argv[1:])
    for index, word in enumerate(words):
        if word == "--api-key" and index + 1 < len(words):
            words[index + 1] = "…"
        elif word.startswith("--api-key="):
            words[index] = "--api-key=…"
    return ["penstock", *words]


def _lift_limit() -> None:
    """A stream is a file descriptor; where there is no limit to lift, there is no such module."""
    try:
        import resource
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _explain(group: BaseExceptionGroup[BaseException]) -> None:
    try:
        reraise_single(group)
    except (FetchError, DepartureError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _write(path: Path | None, data: bytes) -> None:
    if path is None:
        return
    try:
        path.write_bytes(data)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None
    click.echo(f"wrote {os.fspath(path)}", err=True)
