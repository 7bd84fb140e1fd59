"""Grammars from outside, compiled so that the worst of them costs its own request only.

First a child process tries it, within a deadline at which it is killed: compiling can neither be
interrupted nor fully bounded. Then a thread compiles it for the model's vocabulary. What was
compiled is kept, since clients send the same schema again and again.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import OrderedDict
from math import ceil
from pathlib import Path

import trio

from penstock.engine import grammar_child
from penstock.engine.grammar import LIBRARY, LIMITS, Constraint, GrammarError, Grammars, source
from penstock.errors import PenstockError, invalid
from penstock.requests import Grammar

log = logging.getLogger(__name__)

WAIT = 5
"""The child gives way to those who decode, so on a busy machine its seconds take longer."""
KEPT = 64
"""Compiled grammars."""
AT_ONCE = 2

_UNKNOWN = re.compile(r'^Unimplemented keys: \[((?:"[A-Za-z]+"(?:, )?)+)\]')


class GrammarTrial:
    """Compiles for one model; `patience_s` is what one grammar may take, in seconds of CPU time."""

    def __init__(self, grammars: Grammars, patience_s: float) -> None:
        self.grammars = grammars
        self.patience_s = patience_s
        self._kept: OrderedDict[Grammar, Constraint] = OrderedDict()
        self._turns = trio.CapacityLimiter(AT_ONCE)

    async def compile(self, grammar: Grammar) -> Constraint:
        """Raises `PenstockError` that names the field which the grammar came in."""
        if (known := self._kept.get(grammar)) is not None:
            self._kept.move_to_end(grammar)
            return known
        try:
            compiled = await self._compile(grammar)
        except GrammarError as error:
            raise _refusal(grammar.param, str(error)) from None
        self._kept[grammar] = compiled
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return compiled

    async def _compile(self, grammar: Grammar) -> Constraint:
        text = source(grammar)
        async with self._turns:
            with trio.move_on_after(WAIT * self.patience_s) as patience:
                await self._try(text)
            if patience.cancelled_caught:
                raise _too_much(grammar.param)
            return await trio.to_thread.run_sync(self.grammars.compile, grammar)

    async def _try(self, text: str) -> None:
        """Cancelling it kills the child. Raises `GrammarError`."""
        asked = {
            "grammar": text,
            "limits": dict(LIMITS),
            "vocab_size": self.grammars.size,
            "cpu_s": ceil(self.patience_s),
        }
        child = await trio.run_process(
            [sys.executable, "-I", "-S", str(Path(grammar_child.__file__)), LIBRARY],
            stdin=json.dumps(asked).encode(),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        if child.returncode > 0:  # it was not killed, so the fault may be ours
            reason = child.stderr[-500:].decode("utf-8", "replace")
            log.error("a grammar could not be tried: %s", reason)
        if child.returncode or child.stdout:
            raise GrammarError(child.stdout.decode("utf-8", "replace"))


def _refusal(param: str, error: str) -> PenstockError:
    """llguidance's words may quote the input; of them only names of keywords are told."""
    if unknown := _UNKNOWN.match(error):
        names = unknown[1].replace('"', "")[:100]
        return invalid(param, f"{param} uses {names}, which cannot be enforced; leave it out")
    if not error or "fuel" in error or "too " in error or "max is" in error:
        return _too_much(param)
    return invalid(param, f"{param} is not valid, or nothing can satisfy it; mend it")


def _too_much(param: str) -> PenstockError:
    return invalid(param, f"{param} takes too long to compile, or too much memory; simplify it")
