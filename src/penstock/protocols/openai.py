"""OpenAI's chat and text completions: what may be asked.

Fields that are unknown are ignored. Fields that are known, not supported, and would change the
result silently are refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.errors import PenstockError, invalid, unsupported
from penstock.protocols.body import decode
from penstock.protocols.common import (
    ChatMessage,
    parse_messages,
    parse_prompt,
    parse_sampling,
    parse_template_options,
    refuse,
    render_error,
)
from penstock.protocols.constraints import GuidedBody, parse_grammar, parse_guided
from penstock.protocols.sse import dump
from penstock.protocols.tools import Tool, ToolChoice, parse_tools
from penstock.requests import GenerateRequest, Tools


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class Body(GuidedBody):
    """What both kinds of completion have in common."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None


class ChatBody(Body):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    function_call: str | dict[str, Any] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class CompletionBody(Body):
    """POST /v1/completions."""

    prompt: str | list[Any] | None = None
    suffix: str | None = None
    echo: bool | None = None
    logprobs: int | None = None
    best_of: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and how its answer is to be delivered."""

    request: GenerateRequest
    stream: bool
    include_usage: bool
    echo: str = ""
    """What each answer begins with."""


def parse_chat(body: bytes) -> Asked:
    """A chat completion request. Raises `PenstockError` for anything else."""
    chat = decode(body, ChatBody)
    messages = parse_messages(chat.messages)
    refuse(
        chat_template=chat.chat_template is not None,
        function_call=chat.function_call not in (None, "auto", "none"),
    )
    common, tools = _common(chat), _tools(chat)
    if tools and tools.forced:
        # A format binds text, and an answer that must be a call has none.
        common["grammar"] = None
    common |= {
        "max_tokens": chat.max_completion_tokens or chat.max_tokens,
        "logprobs": _alternatives(chat),
        "template_options": parse_template_options(chat.chat_template_kwargs),
        "tools": tools,
    }
    return _asked(chat, GenerateRequest(messages=messages, **common))


def parse_completion(body: bytes) -> Asked:
    """A text completion request. Raises `PenstockError` for anything else."""
    completion = decode(body, CompletionBody)
    prompt = _before_gap(completion) if completion.suffix else parse_prompt(completion.prompt)
    refuse(best_of=(completion.best_of or 1) > (completion.n or 1))
    if completion.echo and completion.logprobs is not None:
        message = "echo: log probabilities of a prompt are not computed; leave out echo or logprobs"
        raise unsupported("echo", message)
    common = _common(completion) | {
        "max_tokens": completion.max_tokens,
        "logprobs": completion.logprobs,
    }
    request = GenerateRequest(prompt=prompt, suffix=completion.suffix or None, **common)
    return _asked(completion, request, echo=prompt if completion.echo else "")


def _before_gap(completion: CompletionBody) -> str:
    """What comes before a gap: there may be nothing."""
    return "" if completion.prompt == "" else parse_prompt(completion.prompt)


def _common(body: Body) -> dict[str, Any]:
    return parse_sampling(body) | {"grammar": parse_grammar(body)}


def dump_error(error: PenstockError) -> str:
    """The error as OpenAI's clients expect it, in a body or in an event."""
    return dump({"error": render_error(error)})


def tell_error(error: PenstockError) -> tuple[int, str]:
    """Status and body."""
    return error.kind.status, dump_error(error)


def _tools(chat: ChatBody) -> Tools | None:
    tools = parse_tools(chat.tools, chat.tool_choice, chat.parallel_tool_calls)
    if tools and tools.forced and parse_guided(chat) is not None:
        raise invalid("tool_choice", "tool_choice and guided_* both say what the answer must be")
    return tools


def _alternatives(chat: ChatBody) -> int | None:
    """How many to report beside each token; None where log probabilities were not asked for."""
    if chat.logprobs:
        return chat.top_logprobs or 0
    if chat.top_logprobs:
        raise invalid("top_logprobs", "top_logprobs needs logprobs to be true")
    return None


def _asked(body: Body, request: GenerateRequest, echo: str = "") -> Asked:
    usage = bool(body.stream_options and body.stream_options.include_usage)
    return Asked(request, stream=bool(body.stream), include_usage=usage, echo=echo)
