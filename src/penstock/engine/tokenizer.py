"""Text to ids and back, and chat messages to text, as the files beside a model say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from tokenizers import Tokenizer as Vocabulary

from penstock.engine.chat import ChatTemplate, TemplateError
from penstock.engine.fim import Fim
from penstock.engine.folder import ModelFolder
from penstock.engine.spec import ModelError
from penstock.requests import Message, TemplateOptions

SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


class Tokenizer:
    """The vocabulary and the chat template of one model folder."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        template: str | None,
        bos: str,
        tokens: Mapping[str, str] | None = None,
        fim: Fim | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        self.fim = fim
        """The marks for filling a gap, where the model was taught to."""
        self._bos = bos
        self.template_text = template or ""
        self._template = ChatTemplate(template, tokens or {}) if template else None

    def encode(self, text: str) -> list[int]:
        """Ids of a plain prompt, begun as in training, with or without the help of the file."""
        ids: list[int] = self.vocabulary.encode(text, add_special_tokens=True).ids
        bos = self.vocabulary.token_to_id(self._bos) if self._bos else None
        return ids if bos is None or ids[:1] == [bos] else [bos, *ids]

    def encode_gap(self, prefix: str, suffix: str) -> list[int]:
        """Ids of a text with a gap that the model is to fill. Raises `TemplateError`."""
        if self.fim is None:
            raise TemplateError("this model has no tokens for filling a gap")
        return self.encode("") + self.fim.join(self._plain(prefix), self._plain(suffix))

    def encode_chat(
        self,
        messages: Sequence[Message],
        options: TemplateOptions = (),
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> list[int]:
        """Ids of a conversation, ready for the assistant's turn. Raises `TemplateError`.

        `tools` are told to the model where its template has a place for them.
        """
        if self._template is None:
            raise TemplateError("this model has no chat template; use /v1/completions")
        return self._plain(self._template.render(messages, options, tools))

    def knows(self, token: str) -> bool:
        """Whether `token` is one of the vocabulary."""
        return self.vocabulary.token_to_id(token) is not None

    @property
    def opens_thinking(self) -> bool:
        """Whether the template ends a prompt with the mark that begins a model's thoughts."""
        if self._template is None or "<think>" not in self.template_text:
            return False
        try:
            return self._template.render([Message("user", "Hi")]).rstrip().endswith("<think>")
        except TemplateError:
            return False

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self.vocabulary.encode(text, add_special_tokens=False).ids
        return ids


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a model folder, or beside an .onnx file. Raises `ModelError`."""
    folder = ModelFolder.locate(path)
    config = folder.json("tokenizer_config.json")
    try:
        vocabulary = _vocabulary(folder)
        return Tokenizer(
            vocabulary,
            template=_template_text(folder, config),
            bos=_special(config, "bos_token") if config.get("add_bos_token") else "",
            tokens={name: _special(config, name) for name in SPECIAL},
            fim=Fim.find(vocabulary, config),
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
