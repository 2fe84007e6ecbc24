"""SentencePiece models (Kudo and Richardson 2018, arXiv 1808.06226), unigram and BPE, for the `tokenizers` library.

The file is a protocol buffer of three messages (pieces, trainer, normalizer), read here without a library. The
tokenizer follows the file's normalizer settings, so it encodes as the sentencepiece library does.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from germinal import files
from germinal.errors import CheckpointError, UnsupportedError
from germinal.text.protobuf import fields
from germinal.text.tokenizer_checks import MAX_PIECE, check_charsmap

SPACE = "▁"
_MOST_COMPARED = 1 << 32
"""Characters of all parts of all pieces; those of a vocabulary of 262,144 are a hundredth of it."""
_ABSENT_SCORE = -1e4
"""Score of a piece of a shared vocabulary that only the target side has: source text uses it only as a last resort."""
_MOST_BYTES = 1 << 25
"""The vocabulary of a million pieces takes half of it."""


class _Kind(IntEnum):
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary; a higher score is preferred."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SentencePieceFile:
    """The contents of a SentencePiece model file.

    Attributes:
        pieces: The vocabulary, by id.
        algorithm: "unigram" or "bpe".
        byte_fallback: Characters that the vocabulary lacks are encoded as bytes.
        unknown_id: Id of the piece for text that cannot be encoded.
        charsmap: Compiled character replacements (Unicode normalization), empty for none.
        add_dummy_prefix: A space is added before the text.
        remove_extra_whitespaces: Spaces at both ends are removed, and runs of spaces become one.
    """

    pieces: tuple[Piece, ...]
    algorithm: Literal["unigram", "bpe"]
    byte_fallback: bool
    unknown_id: int
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool


def read_sentencepiece(path: Path) -> SentencePieceFile:
    """Read a model file.

    Raises:
        CheckpointError: it is truncated or not a SentencePiece model.
        UnsupportedError: the model is neither unigram nor BPE, or marks spaces in an unsupported way.
    """
    content = files.read_bytes(path, most=_MOST_BYTES)
    try:
        return _read(content, str(path))
    except (ValueError, IndexError, struct.error, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"is not a SentencePiece model: {error}.", where=str(path)) from error


def _read(content: bytes, where: str) -> SentencePieceFile:
    found = list(fields(content))
    pieces = tuple(_piece(value) for number, value in found if number == 1)
    trainer, normalizer = (_last(found, number, b"") for number in (2, 3))
    training, normal = dict(fields(trainer)), dict(fields(normalizer))
    if not pieces:
        raise CheckpointError("is not a SentencePiece model: it has no pieces.", where=where)
    kind = training.get(3, 1)
    if kind not in (1, 2):
        raise UnsupportedError("is a word or character model; only unigram and BPE models are supported.", where=where)
    if training.get(24, 0) or not normal.get(5, 1):
        raise UnsupportedError(
            "treats whitespace as a suffix or does not escape it; neither is supported.", where=where
        )
    file = SentencePieceFile(
        pieces=pieces,
        algorithm="unigram" if kind == 1 else "bpe",
        byte_fallback=bool(training.get(35, 0)),
        unknown_id=int(training.get(40, 0)),
        charsmap=bytes(normal.get(2, b"")),
        add_dummy_prefix=bool(normal.get(3, 1)),
        remove_extra_whitespaces=bool(normal.get(4, 1)),
    )
    _check(file, where)
    return file


def _check(file: SentencePieceFile, where: str) -> None:
    """Refuse what no tokenizer can be built from, or only in a time that grows with the square of a piece's length."""
    if not 0 <= file.unknown_id < len(file.pieces):
        raise CheckpointError(f"its unknown piece is {file.unknown_id}, of {len(file.pieces):,} pieces.", where=where)
    if file.charsmap:
        check_charsmap(file.charsmap, where)
    for id, piece in enumerate(file.pieces):
        if len(piece.text) > MAX_PIECE or not math.isfinite(piece.score):
            raise CheckpointError(
                f"piece {id} has {len(piece.text):,} characters and the score {piece.score}.", where=where
            )


def sentencepiece_backend(
    file: SentencePieceFile,
    *,
    sentinels: int = 0,
    ids: Mapping[str, int] | None = None,
    prefix_once: bool = False,
) -> Backend:
    """The tokenizer that a file describes.

    Args:
        sentinels: Number of "<extra_id_i>" tokens that follow the vocabulary, the highest i first.
        ids: Ids of the pieces if they differ from their positions in the file: a vocabulary that two files share.
        prefix_once: Where special tokens divide a text, add the dummy prefix to its first part only.
    """
    pieces = [*file.pieces, *(Piece(f"<extra_id_{i}>", 0.0, _Kind.CONTROL) for i in reversed(range(sentinels)))]
    unknown_id = file.unknown_id
    if ids is not None:
        pieces, unknown_id = _renumbered(file, ids)
    backend = Backend(_model(file, pieces, unknown_id))
    defined = [piece.text for piece in pieces if piece.kind == _Kind.USER_DEFINED]
    backend.normalizer = _normalizer(file, prefix_once)
    steps: list[pre_tokenizers.PreTokenizer] = []
    if file.add_dummy_prefix:
        scheme = "first" if prefix_once else "always"
        steps.append(pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme=scheme, split=False))
    if defined:  # emitted whole, never merged with their neighbours
        pattern = "|".join(re.escape(text) for text in sorted(defined, key=len, reverse=True))
        steps.append(pre_tokenizers.Split(Regex(pattern), behavior="isolated"))
    if steps:
        backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    backend.decoder = _decoder(file)
    control = [piece.text for piece in pieces if piece.kind in (_Kind.CONTROL, _Kind.UNKNOWN)]
    backend.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in control])
    return backend


def merges_by_score(scores: Mapping[str, tuple[float, int]]) -> list[tuple[str, str]]:
    """Every pair of pieces that joins to a piece, ordered by that piece's score, the best first.

    Args:
        scores: Score and id of each piece that takes part in merges.

    Raises:
        CheckpointError: pieces are so long that trying each way to divide them would take minutes.
    """
    if sum(len(text) ** 2 for text in scores) > _MOST_COMPARED:
        raise CheckpointError(f"has a piece of {max(map(len, scores)):,} characters.", where="the vocabulary")
    found = [
        (-score, id, text[:place], text[place:])
        for text, (score, id) in scores.items()
        for place in range(1, len(text))
        if text[:place] in scores and text[place:] in scores
    ]
    return [(left, right) for _, _, left, right in sorted(found)]


def _model(file: SentencePieceFile, pieces: list[Piece], unknown_id: int) -> models.Model:
    if file.algorithm == "unigram":
        vocabulary = [(piece.text, piece.score) for piece in pieces]
        return models.Unigram(vocabulary, unknown_id, byte_fallback=file.byte_fallback)
    normal = {piece.text: (piece.score, id) for id, piece in enumerate(pieces) if piece.kind == _Kind.NORMAL}
    return models.BPE(
        vocab={piece.text: id for id, piece in enumerate(pieces)},
        merges=merges_by_score(normal),
        unk_token=pieces[unknown_id].text,
        fuse_unk=True,
        byte_fallback=file.byte_fallback,
        ignore_merges=any(piece.kind == _Kind.USER_DEFINED for piece in pieces),
    )


def _renumbered(file: SentencePieceFile, ids: Mapping[str, int]) -> tuple[list[Piece], int]:
    """The pieces by their ids in a shared vocabulary; those that the file lacks get `_ABSENT_SCORE`."""
    known = {piece.text: piece for piece in file.pieces}
    unknown = file.pieces[file.unknown_id].text
    if sorted(ids.values()) != list(range(len(ids))) or unknown not in ids:
        raise CheckpointError(f"must number its tokens from 0 without gaps and contain {unknown}.", where="vocab.json")
    ordered = sorted(ids, key=ids.__getitem__)
    return [known.get(text, Piece(text, _ABSENT_SCORE, _Kind.NORMAL)) for text in ordered], ids[unknown]


def _normalizer(file: SentencePieceFile, prefix_once: bool) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if file.charsmap:
        check_charsmap(file.charsmap, "precompiled_charsmap")
        steps.append(normalizers.Precompiled(file.charsmap))
    if file.remove_extra_whitespaces:  # only spaces: the character map handles other whitespace
        steps.append(normalizers.Replace(Regex(r"\A +| +\z"), ""))
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    steps.append(normalizers.Replace(" ", SPACE))
    if file.remove_extra_whitespaces:  # at the end sentencepiece also strips a literal "▁"
        steps.append(normalizers.Replace(Regex(rf"{SPACE}+\z"), ""))
    if file.add_dummy_prefix and not prefix_once:
        # Metaspace adds no prefix to a text that starts with one; sentencepiece does.
        steps.append(normalizers.Replace(Regex(rf"\A{SPACE}"), SPACE * 2))
    return normalizers.Sequence(steps)


def _decoder(file: SentencePieceFile) -> decoders.Decoder:
    if not file.byte_fallback:
        return decoders.Metaspace(replacement=SPACE, prepend_scheme="always" if file.add_dummy_prefix else "never")
    steps: list[decoders.Decoder] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if file.add_dummy_prefix else steps)


def _piece(message: bytes) -> Piece:
    parts = dict(fields(message))
    return Piece(parts[1].decode() if 1 in parts else "", float(parts.get(2, 0.0)), int(parts.get(3, _Kind.NORMAL)))


def _last(message: list[tuple[int, Any]], number: int, default: Any) -> Any:
    return next((value for found, value in reversed(message) if found == number), default)
