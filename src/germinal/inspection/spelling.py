"""How tokens are spelt in pictures: whitespace as visible signs, bytes of a partial character in hex."""

from __future__ import annotations

from collections.abc import Iterable

from germinal.text.tokenizer import Tokenizer

_SIGNS = str.maketrans({" ": "·", "\n": "↵", "\t": "→", "\r": "\\r"})


def spelt(tokenizer: Tokenizer, ids: Iterable[int]) -> list[str]:
    """Printable text of each token; an id without a token (a padding row of the embedding) as its number."""
    return [_spelt(tokenizer, id) for id in ids]


def _spelt(tokenizer: Tokenizer, id: int) -> str:
    if not tokenizer.has_piece(id):
        return f"#{id}"
    token = tokenizer.token_bytes(id)
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return f"⟨{token.hex(' ')}⟩"
    shown = text.translate(_SIGNS)
    return shown if shown.isprintable() and shown else repr(text)
