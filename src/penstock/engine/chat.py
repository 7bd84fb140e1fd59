"""Chat messages to text, as the template beside a model says.

Templates come from the model's files only and run in jinja2's immutable sandbox. What clients send
decides how long they run, so both the work and the text of one rendering are bounded: a loop within
a loop over thirty thousand empty messages would take minutes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NoReturn

import jinja2
from jinja2 import meta
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from penstock.requests import Message, TemplateOptions

OPERATIONS = 200_000
"""Look-ups, calls and counted steps of one rendering: about a fifth of a second."""
CHARACTERS = 8 << 20
"""Text of one rendering: four times the largest body by default."""

_left: ContextVar[int] = ContextVar("operations left")


class TemplateError(ValueError):
    """The model's template cannot express these messages; the message is for the client."""


class OptionError(TemplateError):
    """The model's template does not know such a variable."""


class ChatTemplate:
    """One template. `tokens` are the special ones that it may write, by name."""

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        environment = _Environment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals |= {"raise_exception": _raise_exception, "range": _range}
        environment.filters["tojson"] = _to_json
        # Templates ask whether tools and documents are none, which the undefined is not.
        self._given = {"add_generation_prompt": True, "tools": None, "documents": None, **tokens}
        self._knows_calls = "tool_calls" in source
        self._template = environment.from_string(source)
        names = meta.find_undeclared_variables(environment.parse(source))
        self.options = sorted(names - {"messages", *self._given, *environment.globals})
        """Names of further variables that the template looks at."""

    def render(
        self,
        messages: Sequence[Message],
        options: TemplateOptions = (),
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """The conversation, ready for the assistant's turn. Raises `TemplateError`."""
        if not {name for name, _ in options} <= set(self.options):
            known = ", ".join(self.options) or "none"
            raise OptionError(f"this model's chat template knows these options: {known}")
        told = [self._told(message) for message in messages]
        given = {**self._given, **dict(options), "messages": told, "tools": list(tools) or None}
        token = _left.set(OPERATIONS)
        try:
            return self._run(given)
        except jinja2.TemplateError as error:
            raise TemplateError(f"this model's chat template refused: {error.message}") from None
        except Exception as error:  # a template can fail in any way that Python can
            kind = type(error).__name__
            raise TemplateError(f"this model's chat template failed with {kind}") from None
        finally:
            _left.reset(token)

    def _told(self, message: Message) -> dict[str, Any]:
        """A message as templates know it: what was not stated is not there."""
        if message.tool_calls and not self._knows_calls:
            raise TemplateError("this model's chat template cannot express tool_calls")
        extra = {
            "tool_calls": list(message.tool_calls),
            "tool_call_id": message.tool_call_id,
            "name": message.name,
        }
        stated = {name: value for name, value in extra.items() if value}
        return {"role": message.role, "content": message.content, **stated}

    def _run(self, variables: Mapping[str, object]) -> str:
        pieces, length = [], 0
        for piece in self._template.generate(variables):
            pieces.append(piece)
            length += len(piece)
            if length > CHARACTERS:
                raise jinja2.TemplateError("the text has grown too long")
        return "".join(pieces)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with its work counted."""

    def getattr(self, obj: Any, attribute: str) -> Any:  # noqa: ANN401
        _spend(1)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:  # noqa: ANN401
        _spend(1)
        return super().getitem(obj, argument)

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        _spend(1)
        return super().call(context, obj, *args, **kwargs)


def _spend(operations: int) -> None:
    left = _left.get() - operations
    if left < 0:
        raise jinja2.TemplateError("it takes too long on these messages")
    _left.set(left)


def _range(*bounds: int) -> range:
    counted = range(*bounds)
    _spend(len(counted))
    return counted


def _to_json(value: object, indent: int | None = None) -> str:
    """Unlike jinja2's own, which is made for HTML and escapes quotes."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
