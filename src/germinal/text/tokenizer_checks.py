"""Checks of a tokenizer.json before the library reads it: what would grow a text without end, panic, or be random.

The library bounds the time that a pattern takes at one place of a text (10 million steps), and refuses to go on. What a
step does to a text's length it does not bound, and some parts it trusts so far that a wrong one ends the process. The
bounds here are far from what published tokenizers need; a check that says no names the step.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Collection, Iterator
from typing import Any

from germinal.errors import CheckpointError, UnsupportedError

MAX_GROWTH = 64
"""Most characters that the replacements make of one. The longest Unicode compatibility form has 18."""
MAX_STEPS = 200
MAX_TEXT = 1_000
"""Longest text that a step may insert."""
MAX_WORD = 1_000
"""Longest word that WordPiece looks up, at a cost that grows with its square; published tokenizers have 100."""
MAX_PIECE = 512
"""Longest piece of a unigram model: at each place of a text all lengths are tried."""
MAX_ADDED = 100_000
"""Most added tokens, each of which costs time at every start. Gemma 3 has 6,415."""
MAX_ADDED_TEXT = 2_000_000
"""Most characters of all added tokens, which the library keeps in one automaton."""
_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


def check_tokenizer(state: dict[str, Any], where: str) -> None:
    """Check the contents of a tokenizer.json.

    Raises:
        CheckpointError: a part is malformed or out of bounds.
        UnsupportedError: it drops merges at random.
    """
    for part in _PARTS:
        steps = list(_steps(state.get(part), f"{where}: {part}"))
        if len(steps) > MAX_STEPS:
            raise CheckpointError(f"has {len(steps):,} steps; at most {MAX_STEPS} are read.", where=f"{where}: {part}")
        check_growth(steps, f"{where}: {part}")
        for step in steps:
            _check_step(step, f"{where}: {part}")
    added = state.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise CheckpointError("must list tokens.", where=f"{where}: added_tokens")
    check_added([str(token.get("content")) for token in added], f"{where}: added_tokens")
    model = state.get("model")
    if isinstance(model, dict):
        _check_model(model, f"{where}: model")


def check_added(texts: Collection[str], where: str) -> None:
    """Check how many added tokens there are, and how long.

    Raises:
        CheckpointError: more than `MAX_ADDED`, or of more than `MAX_ADDED_TEXT` characters together.
    """
    length = sum(map(len, texts))
    if len(texts) > MAX_ADDED or length > MAX_ADDED_TEXT:
        raise CheckpointError(
            f"declares {len(texts):,} tokens of {length:,} characters; at most {MAX_ADDED:,} of {MAX_ADDED_TEXT:,} are "
            "read.",
            where=where,
        )


def check_growth(steps: list[dict[str, Any]], where: str) -> None:
    """Check how many characters a chain of steps makes of one.

    Raises:
        CheckpointError: more than `MAX_GROWTH`.
    """
    growth = 1.0
    for step in steps:
        growth *= _growth(step, where)
        if growth > MAX_GROWTH:
            raise CheckpointError(
                f"its replacements make more than {MAX_GROWTH} characters of one.",
                where=where,
                hint="Leave out the replacements that write more than they take.",
            )


def check_charsmap(charsmap: bytes, where: str) -> None:
    """Check SentencePiece's compiled character map: a trie, as a double array of 32-bit units, and the replacements.

    The layout is that of Darts-clone, which sentencepiece uses: a unit's offset, XORed with its place and the next
    byte, gives the place of the next unit; that of a leaf holds where its replacement starts.

    Raises:
        CheckpointError: it is truncated, or points outside itself.
    """
    broken = CheckpointError("the map of characters is damaged.", where=where)
    if len(charsmap) < 4:
        raise broken
    (size,) = struct.unpack_from("<I", charsmap)
    if size % 4 or not 4 <= size <= len(charsmap) - 4:
        raise broken
    units = struct.unpack_from(f"<{size // 4}I", charsmap, 4)
    texts = charsmap[4 + size :]
    longest = max((len(text) for text in texts.split(b"\0")), default=0)
    try:
        texts.decode()
    except UnicodeDecodeError:
        raise broken from None
    if texts and texts[-1] != 0:
        raise broken
    for place, unit in enumerate(units):
        if place and unit >> 31:  # a leaf, which is looked at only through its parent
            continue
        below = place ^ _offset(unit)
        if below | 0xFF >= len(units):
            raise broken
        if unit & 0x100:  # it has a leaf
            value = units[below] & 0x7FFFFFFF
            if value >= len(texts) or not _starts_character(texts[value]):
                raise broken
    if longest > MAX_TEXT:
        raise CheckpointError(f"the map of characters inserts {longest:,} bytes for one.", where=where)


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & 0x200) >> 6)


def _starts_character(byte: int) -> bool:
    return byte & 0xC0 != 0x80


def _steps(part: Any, where: str) -> Iterator[dict[str, Any]]:
    """Each step of a part, in order; sequences are opened.

    The library also reads a step without its type, or as a list of its values. No published file has such.
    """
    if part is None:
        return
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise CheckpointError(f"is not a tokenizer: a step has no type: {part!r:.80}.", where=where)
    if part["type"] != "Sequence":
        yield part
    for inner in ("normalizers", "pretokenizers", "decoders", "processors"):
        found = part.get(inner)
        for each in found if isinstance(found, list) else []:
            yield from _steps(each, where)


def _growth(step: dict[str, Any], where: str) -> float:
    """Most characters that a step makes of one."""
    if step.get("type") == "Prepend" and len(str(step.get("prepend"))) > MAX_TEXT:
        raise CheckpointError(f"inserts more than {MAX_TEXT:,} characters.", where=where)
    if step.get("type") != "Replace":
        return 1
    pattern, content = step.get("pattern"), step.get("content")
    if not isinstance(pattern, dict) or not isinstance(content, str):
        return 1  # the library says what is wrong
    fixed = pattern.get("String")
    if isinstance(fixed, str) and fixed:
        return max(1.0, len(content) / len(fixed))
    return 1.0 + len(content) if fixed == "" else max(1.0, float(len(content)))


def _check_step(step: dict[str, Any], where: str) -> None:
    """What the library trusts, and panics on."""
    kind = step.get("type")
    if kind == "Precompiled":
        try:
            check_charsmap(base64.b64decode(step.get("precompiled_charsmap") or "", validate=True), where)
        except (binascii.Error, TypeError, ValueError) as error:
            raise CheckpointError(f"the map of characters is damaged: {error}.", where=where) from error
    elif kind == "TemplateProcessing":
        _check_template(step, where)
    elif kind == "FixedLength" and not step.get("length"):
        raise CheckpointError("cuts the text into pieces of length 0.", where=where)
    elif kind == "Strip" and any(isinstance(step.get(side), int) and step[side] > 1 for side in ("start", "stop")):
        raise CheckpointError("takes more than one character off a token, which may have fewer.", where=where)


def _check_template(step: dict[str, Any], where: str) -> None:
    """A template uses the special tokens that it defines, and each text once: the second only where there are two."""
    defined = step.get("special_tokens")
    for name, texts in (("single", ["A"]), ("pair", ["A", "B"])):
        parts = step.get(name)
        if not isinstance(parts, list) or not isinstance(defined, dict):
            return  # the library says what is wrong
        kinds = [(kind, value) for part in parts if isinstance(part, dict) for kind, value in part.items()]
        ids = [(kind, value.get("id")) for kind, value in kinds if isinstance(value, dict)]
        used = [id for kind, id in ids if kind == "Sequence"]
        lacking = [id for kind, id in ids if kind == "SpecialToken" and id not in defined]
        if lacking:
            raise CheckpointError(f"its template uses {lacking[0]!r}, which it does not define.", where=where)
        if (used and sorted(map(str, used)) != texts) or len(parts) > MAX_STEPS:
            raise CheckpointError(f"its template '{name}' must have each text once.", where=where)


def _check_model(model: dict[str, Any], where: str) -> None:
    if model.get("dropout"):
        raise UnsupportedError(
            "drops merges at random, so that a text has other tokens each time.",
            where=f"{where}.dropout",
            hint="Set it to null.",
        )
    longest = model.get("max_input_chars_per_word")
    if isinstance(longest, int) and longest > MAX_WORD:
        raise CheckpointError(
            f"is {longest:,}; at most {MAX_WORD:,} are read.", where=f"{where}.max_input_chars_per_word"
        )
    pieces = model.get("vocab")
    for piece in pieces if isinstance(pieces, list) else []:
        if isinstance(piece, list) and piece and isinstance(piece[0], str) and len(piece[0]) > MAX_PIECE:
            raise CheckpointError(
                f"has a piece of {len(piece[0]):,} characters; at most {MAX_PIECE} are read.", where=f"{where}.vocab"
            )
    prefix = model.get("continuing_subword_prefix")
    merges = model.get("merges")
    if isinstance(prefix, str) and prefix and isinstance(merges, list):
        for merge in merges:
            pair = merge.split(" ") if isinstance(merge, str) else merge
            if not isinstance(pair, list) or len(pair) != 2 or not str(pair[1]).startswith(prefix):
                raise CheckpointError(
                    f"merge {merge!r:.80} joins a token that does not start with {prefix!r}.", where=f"{where}.merges"
                )
