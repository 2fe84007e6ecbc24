"""Where a checkpoint's chat templates stand, and which of several is taken: as in transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from germinal.checkpoints.gguf_chat_templates import chat_template_metadata, chat_templates
from germinal.errors import CheckpointError, TemplateError
from germinal.text.tokenizer import Tokenizer

CHAT = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}]
NAMED = {"default": "plain {{ messages[0].content }}", "tool_use": "tools {{ tools|length }}", "rag": "rag"}
LISTED = [{"name": name, "template": source} for name, source in NAMED.items()]


@pytest.fixture
def folder(llama_folder: Path, tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(llama_folder / name, made)
    return made


def write(folder: Path, inline: Any = None, files: dict[str, str] | None = None, **config: Any) -> None:
    path = folder / "tokenizer_config.json"
    entry = {} if inline is None else {"chat_template": inline}
    path.write_text(json.dumps({**json.loads(path.read_text()), **entry, **config}))
    for name, text in (files or {}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text.encode())


@pytest.mark.parametrize("tools", [None, TOOLS, []], ids=["no tools", "tools", "an empty list of tools"])
@pytest.mark.parametrize(
    ("inline", "files"),
    [
        ("one {{ messages[0].content }}", {}),
        (NAMED, {}),
        (LISTED, {}),
        (LISTED, {"chat_template.jinja": "file\r\n{{ messages[0].content }}\r"}),
        ("one", {"chat_template.jinja": "file", "additional_chat_templates/tool_use.jinja": "file {{ tools|length }}"}),
        (None, {"chat_template.jinja": "file", "additional_chat_templates/rag.jinja": "rag"}),
    ],
    ids=["text", "mapping", "list", "list and file", "files", "files without tool_use"],
)
def test_the_template_is_transformers(folder: Path, inline: Any, files: dict[str, str], tools: Any) -> None:
    write(folder, inline, files)
    expected = AutoTokenizer.from_pretrained(folder).apply_chat_template(CHAT, tools=tools, tokenize=False)
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.template.render(CHAT, add_generation_prompt=False, tools=tools) == expected

    tokenizer.save(folder.parent / "again")
    again = AutoTokenizer.from_pretrained(folder.parent / "again")
    assert again.apply_chat_template(CHAT, tools=tools, tokenize=False) == expected
    assert chat_templates(chat_template_metadata(tokenizer.chat_template)) == tokenizer.chat_template


def test_tokens_are_found_by_the_names_that_the_config_gives_them(folder: Path) -> None:
    write(folder, "{{ image_token }}{{ audio_token }}{{ eos_token }}", extra_special_tokens={"image_token": "Ġthe"})
    write(folder, audio_token="Ġof")
    expected = AutoTokenizer.from_pretrained(folder).apply_chat_template(CHAT, tokenize=False)
    assert Tokenizer.from_folder(folder).template.render(CHAT) == expected == "ĠtheĠof<|im_end|>"


def test_named_templates_without_a_default_are_named(folder: Path) -> None:
    write(folder, {"tool_use": "tools", "rag": "rag"})
    template = Tokenizer.from_folder(folder).template
    with pytest.raises(TemplateError, match="named 'rag', 'tool_use', but none is the default"):
        template.render(CHAT)
    assert template.render(CHAT, tools=TOOLS) == "tools"


def test_the_template_of_an_older_processor_is_read(folder: Path) -> None:
    write(folder, files={"chat_template.json": json.dumps({"chat_template": "old"})})
    assert Tokenizer.from_folder(folder).template.render(CHAT) == "old"


@pytest.mark.parametrize("inline", [3, ["x"], {"default": None}, {"../x": "x"}, [{"name": "default"}]])
def test_what_is_no_template_is_refused_with_its_file(folder: Path, inline: Any) -> None:
    write(folder, inline)
    with pytest.raises(CheckpointError) as caught:
        Tokenizer.from_folder(folder)
    assert "tokenizer_config.json" in str(caught.value.where)


def test_a_template_file_that_is_not_text_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="UTF-8"):
        Tokenizer.from_folder(folder)
