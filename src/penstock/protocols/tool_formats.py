"""How model families write calls of tools, and which of them a model belongs to.

Each writes JSON with the function's name and its arguments; they differ in what stands around it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallFormat:
    """`begin` stands before each call, or where `listed` before one JSON array of all of them.

    Without a `begin`, only an answer that starts with a call is one; `tag` may stand before it.
    """

    begin: str = ""
    end: str = ""
    arguments: str = "arguments"
    listed: bool = False
    tag: str = ""

    @property
    def markers(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.begin, self.end, self.tag)))


HERMES = CallFormat("<tool_call>", "</tool_call>")
"""Also Qwen's."""
MISTRAL = CallFormat("[TOOL_CALLS]", listed=True)
LLAMA = CallFormat(arguments="parameters", tag="<|python_tag|>")
BARE = CallFormat()
"""For models that were taught no format: they can still be made to write one."""


def detect(template: str, is_token: Callable[[str], bool]) -> CallFormat:
    """By what the chat template writes, or where it writes no calls, by the vocabulary."""
    for family in (HERMES, MISTRAL):
        if family.begin in template:
            return family
    if LLAMA.tag in template or ('"parameters": ' in template and is_token(LLAMA.tag)):
        return LLAMA
    return next((each for each in (HERMES, MISTRAL) if is_token(each.begin)), BARE)
