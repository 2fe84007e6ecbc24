"""Sections about the input: tokens, their embeddings, their positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from germinal import figures
from germinal.errors import SettingError
from germinal.inspection.picture import Picture, Section
from germinal.inspection.subject import Subject
from germinal.models.inspection import PositionTable, plane, position_tables

WORDS = ("king", "queen", "man", "woman", "Paris", "France", "London", "England", "good", "great", "bad", "terrible")
"""The words whose embeddings are compared by default."""

_POSITIONS = 64
_DIMENSIONS = 128
_WIDE, _HIGH = 900, 384  # pixels of a position map, at most
_FULL_COLOUR = 0.98  # quantile of the values of added position vectors from which the colour has full strength


def tokens_section(subject: Subject) -> Section:
    """The prompt split into tokens."""
    tokenizer = subject.lm.tokenizer
    pictures = [_tokens("tokens", "The prompt", subject, subject.ids)]
    lead = (
        f"The tokenizer splits the text into {len(subject.ids):,} tokens from a vocabulary of "
        f"{tokenizer.vocab_size:,}. The network sees only their ids. A dot is a space, ↵ a line break; neighbouring "
        "tokens differ in colour to show where one ends."
    )
    if subject.trace.attention.cross is not None:
        pictures.append(_tokens("written", "The decoder's tokens", subject, subject.trace.ids))
        lead += " The encoder reads the prompt; the decoder writes, beginning with a start token of its own."
    return Section("tokens", "Tokens", lead, pictures)


def _tokens(name: str, title: str, subject: Subject, ids: Sequence[int]) -> Picture:
    special = subject.lm.tokenizer.special_ids
    boxes = [
        figures.Token(text, id, special=id in special, ends_line=text.endswith("↵"))
        for text, id in zip(subject.spelt(ids), ids, strict=True)
    ]
    caption = "One box per token, with its id underneath. Special tokens have a separate colour."
    return Picture(name, title, caption, figures.tokens(boxes))


def words_section(subject: Subject, words: Sequence[str]) -> Section:
    """Where the chosen words lie in the embedding space.

    Raises:
        SettingError: there are fewer than two different words, or a word gives no token.
    """
    chosen = list(dict.fromkeys(words))
    if len(chosen) < 2:
        given = f"only {chosen[0]!r} was given" if chosen else "none was given"
        raise SettingError(f"comparing embeddings takes two or more different words; {given}.", where="word")
    ids = [_ids_of(subject, word) for word in chosen]
    table = subject.lm.network.embed_tokens.weight
    vectors = torch.stack([table[list(each)].float().mean(0) for each in ids]).cpu()  # [N, D]
    found = plane(vectors)
    degrees = found.degrees.tolist()
    points = [figures.Word(word, x, y) for word, (x, y) in zip(chosen, found.places.tolist(), strict=True)]
    pairs = zip(chosen, ids, strict=True)
    split = [f"{word} ({' '.join(subject.spelt(each))})" for word, each in pairs if len(each) > 1]
    mean = f" For a word of several tokens, it is the mean of theirs: {', '.join(split)}." if split else ""
    lead = (
        f"The network's input is a learned vector of {table.shape[1]:,} numbers for each token, its embedding.{mean} "
        "The embeddings of words with similar uses tend to point in similar directions: the angle between them is "
        "small."
    )
    pictures = [
        Picture(
            "words",
            "In the plane of greatest variance",
            "First two principal components of these words' vectors. A dashed line joins each word to the one at the "
            "smallest angle to it, measured in the whole space and not in the plane.",
            figures.word_plane(points, degrees, explained=found.explained),
        ),
        Picture(
            "angles",
            "The angle between each pair of words, in degrees",
            "0° is the same direction, 90° is orthogonal. In many dimensions, two random vectors are close to 90°.",
            figures.word_angles(chosen, degrees),
        ),
    ]
    return Section("embeddings", "Embeddings", lead, pictures)


def _ids_of(subject: Subject, word: str) -> tuple[int, ...]:
    """A word's tokens within a text (after a space), or at its start if that takes fewer tokens."""
    tokenizer = subject.lm.tokenizer
    spellings = [tuple(tokenizer.encode(text, add_special_tokens=False)) for text in (f" {word}", word)]
    found = min((ids for ids in spellings if ids), key=len, default=())
    if not found or not word.strip():
        raise SettingError(f"{word!r} gives no token.", where="word", hint="Choose another word.")
    return found


def positions_section(subject: Subject) -> Section:
    """How the model encodes positions."""
    tables = position_tables(subject.lm.network, _POSITIONS)
    lead = {
        "added": "A vector for each position is added to the token's embedding before the first layer.",
        "rotation": "Nothing is added to the embeddings: in each layer, every pair of dimensions of queries and keys "
        "is rotated by an angle that grows with the position (arXiv 2104.09864). The attention score of two tokens "
        "then depends on their distance.",
        "bias": "Nothing is added to the embeddings: each head adds a bias to its attention scores that depends on the "
        "distance between the two tokens.",
    }
    kinds = dict.fromkeys(table.kind for table in tables)
    said = " ".join(lead[kind] for kind in kinds) or "This model has no position encoding."
    pictures = [_position_map(table, number) for number, table in enumerate(tables)]
    return Section("positions", "Positions", said, pictures)


def _position_map(table: PositionTable, number: int) -> Picture:
    values, full = table.values, None
    part = _stack_and_layers(table)
    if table.kind == "bias":
        columns = list(range(table.first, table.first + values.shape[1]))
        titles = ("distance to the key, in tokens", "head", "bias")
        title = f"Bias by distance, {part}"
        caption = "What is added to the scores, relative to distance 0. Left of 0 are earlier tokens."
        height = max(6, min(22, _HIGH // values.shape[0]))
    elif table.kind == "rotation":
        columns = list(range(values.shape[1]))
        values = values.cos()
        titles = ("pair of dimensions", "position", "cosine of the angle")
        title = f"Rotary angles, {part}"
        caption = (
            "The cosine of the angle by which each pair is rotated. The first pairs rotate fast and distinguish "
            "neighbouring positions, the last ones rotate slowly and distinguish distant positions."
        )
        height = max(3, _HIGH // values.shape[0])
    else:
        columns = _some_dimensions(values.shape[1])
        values = values[:, columns]
        titles = ("dimension", "position", "value")
        title = f"Position vectors, {table.stack}"
        width = table.values.shape[1]
        shown = "" if len(columns) == width else f" {len(columns)} of {width:,} dimensions are shown."
        caption = f"Each row is the vector added to the embedding of the token at that position.{shown}"
        # Learned tables have a few values so large that at full range all the others would be invisible.
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
    """Pairs of neighbouring dimensions spread over all of them, so that a sine and its cosine stay together."""
    if count <= _DIMENSIONS:
        return list(range(count))
    pairs = _DIMENSIONS // 2
    firsts = [2 * (index * (count // 2) // pairs) for index in range(pairs)]
    return [dimension for first in firsts for dimension in (first, first + 1)]


def _stack_and_layers(table: PositionTable) -> str:
    """The stack and its layers that a table belongs to."""
    layers = table.layers
    if layers == tuple(range(len(layers))):
        return f"{table.stack}, all layers" if len(layers) > 1 else f"{table.stack}, layer 0"
    return f"{table.stack}, layers {', '.join(map(str, layers))}"
