"""Opening a model folder: what it says is read, what is wrong is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from penstock.engine.chat import TemplateError
from penstock.engine.model import Model, ModelError, load_model
from penstock.engine.tokenizer import Tokenizer, load_tokenizer
from penstock.models import embedded_model, parse_model
from penstock.requests import Message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(embedded_model(), tmp_path / "model"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_embedded_model_is_what_its_readme_says(model: Model) -> None:
    spec = model.spec
    assert (spec.layers, spec.kv_heads, spec.head_dim) == (8, 2, 64)
    assert (spec.vocab_size, spec.max_positions, spec.eos_ids) == (4096, 1024, frozenset({0, 4}))
    assert spec.kv_names[:2] == [
        ("past_key_values.0.key", "present.0.key"),
        ("past_key_values.0.value", "present.0.value"),
    ]
    assert model.device == "cpu"


def test_the_embedded_model_is_under_twenty_megabytes() -> None:
    size = sum(path.stat().st_size for path in embedded_model().rglob("*") if path.is_file())
    assert 5e6 < size < 20e6


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no model.onnx; make one with `penstock export"):
        load_model(tmp_path)


def test_a_damaged_model_is_named_in_one_line(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="onnxruntime cannot open") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_broken_config_is_named(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        load_model(folder)


def test_cuda_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(ModelError, match="--device cpu"):
        load_model(embedded_model(), device="cuda")


@pytest.mark.parametrize(("eos", "expected"), [(7, {7}), ([7, 9], {7, 9}), (None, {0, 4})])
def test_eos_ids_come_from_the_generation_config_first(
    folder: Path, eos: object, expected: set[int]
) -> None:
    edit(folder / "generation_config.json", eos_token_id=eos)
    assert load_model(folder).spec.eos_ids == expected


def test_a_prompt_begins_with_bos_once(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("Once upon")[0] == 0
    assert tokenizer.encode("Once upon").count(0) == 1
    assert tokenizer.encode("") == [0]


def test_a_chat_is_rendered_by_the_template_of_the_model(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_chat([Message("system", "Be kind."), Message("user", "Hi")])
    text = tokenizer.vocabulary.decode(ids, skip_special_tokens=False)
    assert text == "<|endoftext|><|system|>Be kind.<|end|><|user|>Hi<|end|><|assistant|>"


def test_a_template_that_refuses_says_so(tokenizer: Tokenizer) -> None:
    with pytest.raises(TemplateError, match="knows the roles system, user, assistant and tool"):
        tokenizer.encode_chat([Message("narrator", "4")])


def test_the_embedded_model_takes_a_turn_of_tools(tokenizer: Tokenizer) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
    messages = [Message("user", "2?"), Message("assistant", "", (call,)), Message("tool", "4")]
    text = tokenizer.vocabulary.decode(tokenizer.encode_chat(messages), skip_special_tokens=False)
    assert text == (
        "<|endoftext|><|user|>2?<|end|>"
        '<|assistant|>{"name": "add", "arguments": {"a": 2}}<|end|>'
        "<|user|>4<|end|><|assistant|>"
    )


def test_a_model_without_a_template_has_no_chat(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    edit(folder / "tokenizer_config.json", chat_template=None)
    with pytest.raises(TemplateError, match="no chat template"):
        load_tokenizer(folder).encode_chat([Message("user", "Hi")])


@pytest.mark.parametrize(
    "template", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ 1 / 0 }}"]
)
def test_a_template_cannot_leave_its_sandbox_or_crash(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(TemplateError):
        load_tokenizer(folder).encode_chat([Message("user", "Hi")])


@pytest.mark.parametrize(
    ("templates", "text"),
    [
        ([{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "hi"}], "hi"),
        ([{"name": "other", "template": "other"}], "other"),
        ([], None),
    ],
)
def test_of_several_templates_the_default_one_is_used(
    folder: Path, templates: list[dict[str, str]], text: str | None
) -> None:
    (folder / "chat_template.jinja").unlink()
    edit(folder / "tokenizer_config.json", chat_template=templates)
    tokenizer = load_tokenizer(folder)
    if text is None:
        with pytest.raises(TemplateError, match="no chat template"):
            tokenizer.encode_chat([Message("user", "Hi")])
    else:
        ids = tokenizer.encode_chat([Message("user", "Hi")])
        assert tokenizer.vocabulary.decode(ids) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ eos_token }}{{ pad_token }}", "<|endoftext|>"),
        ("{% if tools is not none %}tools{% else %}none{% endif %}", "none"),
        ("{{ messages | map(attribute='content') | list | tojson }}", "[\"<Hi> 'é'\"]"),
        ("{% for m in messages %}{% break %}{% endfor %}out", "out"),
    ],
)
def test_templates_find_what_their_authors_rely_on(folder: Path, template: str, text: str) -> None:
    (folder / "chat_template.jinja").write_text(template)
    tokenizer = load_tokenizer(folder)
    ids = tokenizer.encode_chat([Message("user", "<Hi> 'é'")])
    assert tokenizer.vocabulary.decode(ids, skip_special_tokens=False) == text


def test_a_broken_template_is_found_at_loading(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% if %}")
    with pytest.raises(ModelError, match="chat template is broken"):
        load_tokenizer(folder)


def test_models_are_named_by_the_user_or_by_their_folder(tmp_path: Path) -> None:
    assert parse_model("") == ("default", embedded_model())
    assert parse_model("tiny=/somewhere") == ("tiny", Path("/somewhere"))
    assert parse_model(str(tmp_path / "qwen")) == ("qwen", tmp_path / "qwen")
    assert parse_model("hub/qwen/onnx/model_q4.onnx") == (
        "qwen",
        Path("hub/qwen/onnx/model_q4.onnx"),
    )
    assert parse_model("hub/qwen/q4.onnx") == ("qwen", Path("hub/qwen/q4.onnx"))
