"""The first half of the way: tokens, their embeddings, their positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from germinal import figures
from germinal.errors import SettingError
from germinal.inspection.picture import Picture, Section
from germinal.inspection.subject import Subject
from germinal.models.inspection import PositionTable, plane, position_tables

WORDS = ("king", "queen", "man", "woman", "Paris", "France", "London", "England", "good", "great", "bad", "terrible")
"""Whose embeddings are compared unless others are chosen."""

_POSITIONS = 64
_DIMENSIONS = 128
_WIDE, _HIGH = 900, 384  # pixels of a position map, at most
_FULL_COLOUR = 0.98  # share of the numbers of added vectors whose size the colour can tell apart


def tokens_section(subject: Subject) -> Section:
    """The prompt in pieces."""
    tokenizer = subject.lm.tokenizer
    pictures = [_tokens("tokens", "The prompt", subject, subject.ids)]
    lead = (
        f"The tokenizer cuts the text into {len(subject.ids):,} tokens of a vocabulary of {tokenizer.vocab_size:,}. "
        "A network sees their ids and nothing else. A dot is a space, ↵ a line break; neighbours differ in colour so "
        "that borders can be seen."
    )
    if subject.trace.attention.cross is not None:
        pictures.append(_tokens("written", "What the decoder has written", subject, subject.trace.ids))
        lead += " The encoder reads the prompt; the decoder starts from a token of its own and writes."
    return Section("tokens", "Tokens", lead, pictures)


def _tokens(name: str, title: str, subject: Subject, ids: Sequence[int]) -> Picture:
    special = subject.lm.tokenizer.special_ids
    boxes = [
        figures.Token(text, id, special=id in special, ends_line=text.endswith("↵"))
        for text, id in zip(subject.spelt(ids), ids, strict=True)
    ]
    caption = "One box a token, with its id underneath. Special tokens have a colour of their own."
    return Picture(name, title, caption, figures.tokens(boxes))


def words_section(subject: Subject, words: Sequence[str]) -> Section:
    """Where chosen words lie in the embedding space.

    Raises:
        SettingError: fewer than two words, or one that gives no token.
    """
    chosen = list(dict.fromkeys(words))
    if len(chosen) < 2:
        raise SettingError(f"{len(chosen)} word cannot be compared; give two or more.", where="word")
    ids = [_ids_of(subject, word) for word in chosen]
    table = subject.lm.network.embed_tokens.weight
    vectors = torch.stack([table[list(each)].float().mean(0) for each in ids]).cpu()  # [N, D]
    found = plane(vectors)
    degrees = found.degrees.tolist()
    points = [figures.Word(word, x, y) for word, (x, y) in zip(chosen, found.places.tolist(), strict=True)]
    pairs = zip(chosen, ids, strict=True)
    split = [f"{word} ({' '.join(subject.spelt(each))})" for word, each in pairs if len(each) > 1]
    mean = f" A word of several tokens is their mean: {', '.join(split)}." if split else ""
    lead = (
        f"Each token has a learned vector of {table.shape[1]:,} numbers, with which all computing starts. Words used "
        f"alike tend to point the same way: the angle between them is small.{mean}"
    )
    pictures = [
        Picture(
            "words",
            "In the plane in which they differ most",
            "Principal components of these words' vectors. A dashed line joins each word with the one at the smallest "
            "angle to it; the angles are those of the whole space, not of the picture.",
            figures.word_plane(points, degrees, explained=found.explained),
        ),
        Picture(
            "angles",
            "The angle between each two, in degrees",
            "0° is the same direction, 90° nothing in common. In many dimensions two random vectors are close to 90°.",
            figures.word_angles(chosen, degrees),
        ),
    ]
    return Section("embeddings", "Embeddings", lead, pictures)


def _ids_of(subject: Subject, word: str) -> tuple[int, ...]:
    """A word's tokens as it stands inside a text, or at its beginning where that takes fewer."""
    tokenizer = subject.lm.tokenizer
    spellings = [tuple(tokenizer.encode(text, add_special_tokens=False)) for text in (f" {word}", word)]
    found = min((ids for ids in spellings if ids), key=len, default=())
    if not found or not word.strip():
        raise SettingError(f"{word!r} gives no token.", where="word")
    return found


def positions_section(subject: Subject) -> Section:
    """How the model tells one place from another."""
    tables = position_tables(subject.lm.network, _POSITIONS)
    lead = {
        "added": "A vector for each position is added to the embeddings, and from there on everything knows it.",
        "rotation": "Nothing is added: queries and keys are turned, pair of dimensions by pair, by an angle that grows "
        "with the position (arXiv 2104.09864). Two tokens' score then depends on how far apart they stand.",
        "bias": "Nothing is added to the embeddings: each head's attention scores get a bias that depends on how far "
        "apart two tokens stand.",
    }
    kinds = dict.fromkeys(table.kind for table in tables)
    said = " ".join(lead[kind] for kind in kinds) or "This model does not tell positions apart."
    pictures = [_position_map(table, number) for number, table in enumerate(tables)]
    return Section("positions", "Positions", said, pictures)


def _position_map(table: PositionTable, number: int) -> Picture:
    values, full = table.values, None
    whose = _whose(table)
    if table.kind == "bias":
        columns = list(range(table.first, table.first + values.shape[1]))
        titles = ("distance to the key, in tokens", "head", "bias")
        title = f"Bias by distance, {whose}"
        caption = "What is added to the scores, relative to a token's score with itself. Left of 0 lies the past."
        height = max(6, min(22, _HIGH // values.shape[0]))
    elif table.kind == "rotation":
        columns = list(range(values.shape[1]))
        values = values.cos()
        titles = ("pair of dimensions", "position", "cosine of the angle")
        title = f"Rotary angles, {whose}"
        caption = (
            "The cosine of the angle by which each pair is turned. The first pairs turn fast and tell neighbours "
            "apart, the last ones hardly move and tell far places apart."
        )
        height = max(3, _HIGH // values.shape[0])
    else:
        columns = _some_dimensions(values.shape[1])
        values = values[:, columns]
        titles = ("dimension", "position", "value")
        title = f"Position vectors, {table.stack}"
        width = table.values.shape[1]
        shown = "" if len(columns) == width else f" {len(columns)} of {width:,} dimensions are shown."
        caption = f"A row is the vector that is added to the embedding of the token at that position.{shown}"
        # Learned tables have a few numbers far larger than all others, beside which these would be invisible.
        full = float(values.abs().flatten().quantile(_FULL_COLOUR))
        height = max(3, _HIGH // values.shape[0])
    chart = figures.signed_map(
        values.tolist(),
        columns=columns,
        x_title=titles[0],
        y_title=titles[1],
        value_title=titles[2],
        cell=(max(3, min(24, _WIDE // len(columns))), height),
        full=full,
    )
    return Picture(f"positions-{number}", title, caption, chart)


def _some_dimensions(count: int) -> list[int]:
    """Neighbouring pairs spread over all dimensions: a sine and its cosine stay together."""
    if count <= _DIMENSIONS:
        return list(range(count))
    pairs = _DIMENSIONS // 2
    firsts = [2 * (index * (count // 2) // pairs) for index in range(pairs)]
    return [dimension for first in firsts for dimension in (first, first + 1)]


def _whose(table: PositionTable) -> str:
    """The stack, and which of its layers."""
    layers = table.layers
    if layers == tuple(range(len(layers))):
        return f"{table.stack}, all layers" if len(layers) > 1 else f"{table.stack}, layer 0"
    return f"{table.stack}, layers {', '.join(map(str, layers))}"
