"""The tokens that end an answer of a checkpoint and the sources that name them, read without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from germinal import files
from germinal.text.answer_tokens import closing_id
from germinal.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class AnswerEnd:
    """A token that some source of a checkpoint calls an end.

    Attributes:
        id: Its id.
        sources: Where it is named.
        ends: What it ends: "every answer", "answers in a chat" or "no answer".
    """

    id: int
    sources: tuple[str, ...]
    ends: str


def answer_ends(path: Path, tokenizer: Tokenizer) -> list[AnswerEnd]:
    """All tokens that a checkpoint's files call an end, by id.

    Every answer ends at those of the first source that names any: generation_config.json (or a GGUF file's metadata),
    config.json, the tokenizer. One in a chat ends also at the token with which the template closes a turn.
    """
    named = _named(path, tokenizer)
    first = next((ids for ids in named.values() if ids is not None), [])
    turn = closing_id(tokenizer)
    sources = {name: ids or [] for name, ids in named.items()} | {"the chat template": [] if turn is None else [turn]}
    found = []
    for id in sorted({id for ids in sources.values() for id in ids}):
        written = 0 <= id < tokenizer.vocab_size
        ends = "every answer" if written and id in first else "answers in a chat" if id == turn else "no answer"
        found.append(AnswerEnd(id, tuple(name for name, ids in sources.items() if id in ids), ends))
    return found


def _named(path: Path, tokenizer: Tokenizer) -> dict[str, list[int] | None]:
    """Source -> the ends that it names, the source that counts first; None if it says nothing of ends."""
    eos = None if tokenizer.eos_id is None else [tokenizer.eos_id]
    if not path.is_dir():
        from germinal.checkpoints.gguf_header import read_header
        from germinal.checkpoints.gguf_tokenizer import end_ids

        return {"the file's metadata": end_ids(read_header(path).metadata) or None, "the tokenizer": eos}
    generation, config = path / "generation_config.json", path / "config.json"
    if generation.is_file():
        return {generation.name: _ids(files.read_json_object(generation)), "the tokenizer": eos}
    published = files.read_json_object(config) if config.is_file() else {}
    return {config.name: _ids(published), "the tokenizer": eos}


def _ids(published: Mapping[str, Any]) -> list[int] | None:
    ids = published.get("eos_token_id")
    return None if ids is None else [id for id in (ids if isinstance(ids, list) else [ids]) if isinstance(id, int)]
