"""Text to ids and back, and chat messages to text, as the files beside a model say.

Chat templates come from the model's files only and run in jinja2's immutable sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer as Vocabulary

from penstock.engine.folder import ModelFolder
from penstock.engine.spec import ModelError
from penstock.requests import Message

SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


class TemplateError(ValueError):
    """The model's template cannot express these messages; the message is for the client."""


class Tokenizer:
    """The vocabulary and the chat template of one model folder."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        template: str | None,
        bos: str,
        tokens: Mapping[str, str] | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        self._bos = bos
        self._tokens = tokens or {}
        self.template_text = template or ""
        self._template = _compile(template) if template else None

    def encode(self, text: str) -> list[int]:
        """Ids of a plain prompt, begun as in training, with or without the help of the file."""
        ids: list[int] = self.vocabulary.encode(text, add_special_tokens=True).ids
        bos = self.vocabulary.token_to_id(self._bos) if self._bos else None
        return ids if bos is None or ids[:1] == [bos] else [bos, *ids]

    def knows(self, token: str) -> bool:
        """Whether `token` is one of the vocabulary."""
        return self.vocabulary.token_to_id(token) is not None

    @property
    def opens_thinking(self) -> bool:
        """Whether the template ends a prompt with the mark that begins a model's thoughts."""
        if "<think>" not in self.template_text:
            return False
        try:
            return self._render([Message("user", "Hi")]).rstrip().endswith("<think>")
        except TemplateError:
            return False

    def encode_chat(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """Ids of a conversation, ready for the assistant's turn. Raises `TemplateError`.

        `tools` are told to the model where its template has a place for them.
        """
        if self._template is None:
            raise TemplateError("this model has no chat template; use /v1/completions")
        rendered = self._render(messages, tools)
        ids: list[int] = self.vocabulary.encode(rendered, add_special_tokens=False).ids
        return ids

    def _render(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        assert self._template is not None
        told = [self._told(message) for message in messages]
        try:
            # Templates ask whether tools and documents are none, which the undefined is not.
            return self._template.render(
                messages=told,
                add_generation_prompt=True,
                tools=list(tools) or None,
                documents=None,
                **self._tokens,
            )
        except jinja2.TemplateError as error:
            raise TemplateError(f"this model's chat template refused: {error.message}") from None
        except Exception as error:  # a template can fail in any way that Python can
            kind = type(error).__name__
            raise TemplateError(f"this model's chat template failed with {kind}") from None

    def _told(self, message: Message) -> dict[str, Any]:
        """A message as templates know it: what was not stated is not there."""
        if message.tool_calls and "tool_calls" not in self.template_text:
            raise TemplateError("this model's chat template cannot express tool_calls")
        extra = {
            "tool_calls": list(message.tool_calls),
            "tool_call_id": message.tool_call_id,
            "name": message.name,
        }
        stated = {name: value for name, value in extra.items() if value}
        return {"role": message.role, "content": message.content, **stated}


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a model folder, or beside an .onnx file. Raises `ModelError`."""
    folder = ModelFolder.locate(path)
    config = folder.json("tokenizer_config.json")
    try:
        return Tokenizer(
            _vocabulary(folder),
            template=_template_text(folder, config),
            bos=_special(config, "bos_token") if config.get("add_bos_token") else "",
            tokens={name: _special(config, name) for name in SPECIAL},
        )
    except jinja2.TemplateSyntaxError as error:
        raise ModelError(f"{path}: the chat template is broken: {error.message}") from None


def _vocabulary(folder: ModelFolder) -> Vocabulary:
    path = folder.find("tokenizer.json")
    if path is None:
        raise ModelError(
            f"no tokenizer.json in {folder.home}; copy the one of the model's source there "
            "(for an older tokenizer, save it anew as a fast one)"
        )
    try:
        return Vocabulary.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelError(f"cannot read {path}: {error}") from None


def _template_text(folder: ModelFolder, config: dict[str, Any]) -> str | None:
    path = folder.find("chat_template.jinja")
    if path is not None:
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template") or folder.json("chat_template.json").get("chat_template")
    if isinstance(template, list):
        template = _default_of(template)
    return template if isinstance(template, str) else None


def _default_of(templates: list[Any]) -> object:
    """Of several named templates, the one for plain chat."""
    named = {each.get("name"): each.get("template") for each in templates if isinstance(each, dict)}
    return named.get("default") or next(iter(named.values()), None)


def _special(config: Mapping[str, Any], name: str) -> str:
    token = config.get(name)
    return str(token["content"] if isinstance(token, dict) else token or "")


def _compile(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _raise_exception
    environment.filters["tojson"] = _to_json
    return environment.from_string(template)


def _to_json(value: object, indent: int | None = None) -> str:
    """Unlike jinja2's own, which is made for HTML and escapes quotes."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
