"""`penstock generate`: one prompt to the terminal, through the same pipeline as the server's."""

from __future__ import annotations

import os
import sys
from functools import partial
from math import isnan
from pathlib import Path

import click
import trio

from penstock import logs
from penstock.build import build_service
from penstock.cli.options import collect, settings_options
from penstock.engine.model import ModelError
from penstock.errors import PenstockError, reraise_single
from penstock.events import Delta, Event, Failed
from penstock.requests import SEED_LIMIT, GenerateRequest, Message, Sampling
from penstock.service import Service

SETTINGS = ("model", "device", "threads", "max_len")


class TextEncoder:
    """Events to the text alone."""

    def encode(self, event: Event) -> bytes:
        return event.text.encode() if isinstance(event, Delta) else b"\n"

    def heartbeat(self) -> bytes:
        return b""


class TerminalSink:
    """Standard output, flushed at each piece. A slow pipe slows the model, as everywhere.

    `opening` goes ahead of the text.
    """

    def __init__(self, opening: str) -> None:
        self.error: PenstockError | None = None
        self._opening = opening

    async def open(self) -> None:
        await trio.to_thread.run_sync(_write, self._opening.encode())

    async def permit(self, event: Event | None) -> bool:
        """A pipe says what it wants by taking it."""
        return True

    async def write(self, data: bytes, event: Event | None) -> None:
        if isinstance(event, Failed):
            self.error = event.error
        await trio.to_thread.run_sync(_write, data)

    def release(self) -> None:
        """Nothing is held back here."""


def _check_text(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """An argument that is not UTF-8 arrives with surrogates in it, which no tokenizer takes."""
    if any("\ud800" <= character <= "\udfff" for character in value or ""):
        raise click.BadParameter("this is not UTF-8")
    return value


def _check_number(_: click.Context, __: click.Parameter, value: float) -> float:
    """NaN is in every `FloatRange`."""
    if isnan(value):
        raise click.BadParameter("this is not a number")
    return value


@click.command()
@click.argument("prompt", callback=_check_text)
@click.option("--chat", is_flag=True, help="Ask as a chat message instead of continuing a text.")
@click.option("--suffix", callback=_check_text, help="Fill the gap between PROMPT and this text.")
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Tokens after which to stop.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(0, 2),
    default=0.7,
    show_default=True,
    callback=_check_number,
    help="How freely tokens are drawn; 0 takes the likeliest.",
)
@click.option("--seed", type=click.IntRange(0, SEED_LIMIT - 1), help="Same seed, same text.")
@settings_options(*SETTINGS)
def generate(
    prompt: str,
    chat: bool,
    suffix: str | None,
    max_tokens: int,
    temperature: float,
    seed: int | None,
    config: Path | None,
    **given: object,
) -> None:
    """Continue PROMPT, streaming to the terminal."""
    if chat and suffix is not None:
        raise click.UsageError("--suffix goes with a text, not with --chat")
    request = GenerateRequest(
        prompt=None if chat else prompt,
        suffix=suffix,
        messages=(Message("user", prompt),) if chat else None,
        max_tokens=max_tokens,
        sampling=Sampling.of(temperature=temperature, seed=seed),
    )
    sink = TerminalSink("" if chat else prompt)
    settings = collect({**given, "slots": 1}, config)
    if len(settings.model) > 1:
        raise click.UsageError("generate takes one --model")
    logs.to_logging()
    try:
        _run(build_service(settings), request, sink)
    except (ModelError, PenstockError) as error:
        raise click.ClickException(str(error)) from None
    if sink.error is not None:
        raise click.ClickException(str(sink.error))


def _run(service: Service, request: GenerateRequest, sink: TerminalSink) -> None:
    try:
        trio.run(partial(_generate, service, request, sink))
    except BaseExceptionGroup as group:
        reraise_single(group)


async def _generate(service: Service, request: GenerateRequest, sink: TerminalSink) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        await service.generate(request, TextEncoder(), sink)
        nursery.cancel_scope.cancel()


def _write(data: bytes) -> None:
    """What cannot be written is dropped, or the interpreter would try it again when it ends."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise click.ClickException(f"cannot write the text: {error.strerror}") from None
