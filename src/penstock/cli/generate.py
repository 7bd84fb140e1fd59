"""`penstock generate`: one prompt to the terminal, through the same pipeline as the server's."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click
import trio

from penstock.build import build_service
from penstock.cli.options import collect, settings_options
from penstock.engine.model import ModelError
from penstock.errors import PenstockError
from penstock.events import Delta, Event, Failed
from penstock.requests import GenerateRequest, Message, Sampling
from penstock.service import Service

SETTINGS = ("model", "device", "threads", "max_len")


class TextEncoder:
    """Events to the text alone."""

    def encode(self, event: Event) -> bytes:
        return event.text.encode() if isinstance(event, Delta) else b"\n"

    def heartbeat(self) -> bytes:
        return b""


class TerminalSink:
    """Standard output, flushed at each piece. A slow pipe slows the model, as everywhere."""

    def __init__(self) -> None:
        self.error: PenstockError | None = None

    async def open(self) -> None:
        """Nothing goes ahead of the text."""

    async def write(self, data: bytes, event: Event | None) -> None:
        if isinstance(event, Failed):
            self.error = event.error
        await trio.to_thread.run_sync(_write, data)

    def release(self) -> None:
        """Nothing is held back here."""


@click.command()
@click.argument("prompt")
@click.option("--chat", is_flag=True, help="Ask as a chat message instead of continuing a text.")
@click.option("--max-tokens", type=click.IntRange(1), default=200, show_default=True)
@click.option("--temperature", type=click.FloatRange(0, 2), default=0.7, show_default=True)
@click.option("--seed", type=click.IntRange(0), help="Same seed, same text.")
@settings_options(*SETTINGS)
def generate(
    prompt: str,
    chat: bool,
    max_tokens: int,
    temperature: float,
    seed: int | None,
    config: Path | None,
    **given: object,
) -> None:
    """Continue PROMPT, streaming to the terminal."""
    request = GenerateRequest(
        prompt=None if chat else prompt,
        messages=(Message("user", prompt),) if chat else None,
        max_tokens=max_tokens,
        sampling=Sampling(temperature=temperature, seed=seed),
    )
    try:
        service = build_service(collect({**given, "slots": 1}, config))
    except ModelError as error:
        raise click.ClickException(str(error)) from None
    if not chat:
        click.echo(prompt, nl=False)
    try:
        trio.run(partial(_generate, service, request))
    except* PenstockError as group:
        raise click.ClickException(str(group.exceptions[0])) from None
    except* BrokenPipeError:
        sys.exit(1)


async def _generate(service: Service, request: GenerateRequest) -> None:
    sink = TerminalSink()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        await service.generate(request, TextEncoder(), sink)
        nursery.cancel_scope.cancel()
    if sink.error is not None:
        raise sink.error


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
