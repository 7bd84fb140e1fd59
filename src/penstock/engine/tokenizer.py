"""Text to ids and back, and chat messages to text, as the files beside a model say.

Chat templates come from the model's files only and run in jinja2's immutable sandbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer as Vocabulary

from penstock.engine.model import ModelError, read_json
from penstock.requests import Message


class TemplateError(ValueError):
    """The model's template cannot express these messages; the message is for the client."""


class Tokenizer:
    """The vocabulary and the chat template of one model folder."""

    def __init__(self, vocabulary: Vocabulary, *, template: str | None, bos: str) -> None:
        self.vocabulary = vocabulary
        self._bos = bos
        self._template = _compile(template) if template else None

    def encode(self, text: str) -> list[int]:
        """Ids of a plain prompt, begun as in training, with or without the help of the file."""
        ids: list[int] = self.vocabulary.encode(text, add_special_tokens=True).ids
        bos = self.vocabulary.token_to_id(self._bos) if self._bos else None
        return ids if bos is None or ids[:1] == [bos] else [bos, *ids]

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation, ready for the assistant's turn. Raises `TemplateError`."""
        if self._template is None:
            raise TemplateError("this model has no chat template; use /v1/completions")
        rendered = self._render(messages)
        ids: list[int] = self.vocabulary.encode(rendered, add_special_tokens=False).ids
        return ids

    def _render(self, messages: Sequence[Message]) -> str:
        assert self._template is not None
        told = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._template.render(
                messages=told, bos_token=self._bos, add_generation_prompt=True
            )
        except jinja2.TemplateError as error:
            raise TemplateError(f"this model's chat template refused: {error.message}") from None
        except Exception as error:  # a template can fail in any way that Python can
            kind = type(error).__name__
            raise TemplateError(f"this model's chat template failed with {kind}") from None


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder. Raises `ModelError`."""
    path = folder / "tokenizer.json"
    try:
        vocabulary = Vocabulary.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelError(f"cannot read {path}: {error}") from None
    config = read_json(folder / "tokenizer_config.json")
    try:
        return Tokenizer(vocabulary, template=_template_text(folder, config), bos=_bos(config))
    except jinja2.TemplateSyntaxError as error:
        raise ModelError(f"{folder}: the chat template is broken: {error.message}") from None


def _template_text(folder: Path, config: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    return template if isinstance(template, str) else None


def _bos(config: dict[str, Any]) -> str:
    token = config.get("bos_token") if config.get("add_bos_token") else None
    return token["content"] if isinstance(token, dict) else token or ""


def _compile(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _raise_exception
    return environment.from_string(template)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
