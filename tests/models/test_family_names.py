"""Only `models/families/` knows the families' names: the code elsewhere has none to branch on.

Counted are whole words in names and in strings of the code, file names, and templates. Docstrings and comments may say
where an idea is from. Not a family's name: "transformer", which is what the network is called; llama.cpp, a program.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import germinal
from germinal.models.families import FAMILIES

ROOT = Path(germinal.__file__).parent
NAMES = {
    name.lower()
    for family in FAMILIES.values()
    for name in (family.name, *family.model_types, *([family.gguf.architecture] if family.gguf else []))
    if name != "transformer"
}
WORD = re.compile(rf"(?<![a-z0-9])({'|'.join(sorted(map(re.escape, NAMES), key=len, reverse=True))})(?![a-z0-9])")
OTHERS = re.compile(r"llama[._-]cpp|\bbert(normalizer|pretokenizer)\b|sentence_bert_config\.json", re.IGNORECASE)

FORMATS = {
    # Models' own names and where they lie on the hub: what a user types. Nothing there decides by them (see below).
    "checkpoints/catalogue.py",
    # What GGUF calls kinds of tokenizers and of splitting text, whichever family uses them.
    "checkpoints/gguf_tokenizer.py",
    "checkpoints/gguf_pre_tokenizers.py",
    "checkpoints/gguf_vocabulary.py",
}


def words(text: str) -> list[str]:
    """Families named in a piece of code; CamelCase and snake_case are words."""
    text = OTHERS.sub("", text)
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return sorted({*WORD.findall(text.lower()), *WORD.findall(spaced.lower())})


def docstrings(tree: ast.Module) -> set[int]:
    """The string nodes that are documentation: first in a body, or under an attribute."""
    found = set()
    for node in ast.walk(tree):
        for statement in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                found.add(id(statement.value))
    return found


def code_of(path: Path) -> Iterator[tuple[int, str]]:
    """Names and strings of a module, with their lines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = docstrings(tree)
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield line, node.value
        for field in ("id", "attr", "arg", "name", "asname", "module"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield line, value


def elsewhere() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*")):
        name = path.relative_to(ROOT).as_posix()
        if path.is_file() and "__pycache__" not in name and not name.startswith("models/families/"):
            yield name, path


def test_no_family_is_named_outside_the_families() -> None:
    found = []
    for name, path in elsewhere():
        found += [f"file {name}"] if words(name) else []
        if name in FORMATS:
            continue
        if path.suffix == ".py":
            found += [f"{name}:{line}: {text!r}" for line, text in code_of(path) if words(text)]
        elif path.suffix in (".jinja", ".json", ".html", ".css", ".js", ".mako"):
            found += [f"{name}: {word}" for word in words(path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


def test_the_catalogue_decides_nothing_by_a_familys_name() -> None:
    tree = ast.parse((ROOT / "checkpoints" / "catalogue.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare | ast.MatchValue | ast.IfExp | ast.If):
            assert not words(ast.unparse(node)), ast.unparse(node)


@pytest.mark.parametrize(
    "text",
    ["is_llama", "LlamaConfig", "gpt2", "a bert-base", "model.t5", "config.model_type == 'qwen3'", "isPaLM_bert"],
)
def test_a_name_is_found(text: str) -> None:
    assert words(text)


@pytest.mark.parametrize("text", ["Transformer", "llama.cpp", "llama_cpp", "llama3", "albert", "bloomberg", "smollm2"])
def test_other_words_are_not(text: str) -> None:
    assert not words(text)
