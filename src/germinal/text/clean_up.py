"""The clean-up of spaces that `clean_up_tokenization_spaces` asks for, of a whole text and of one that grows."""

from __future__ import annotations

_REPLACED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
_LONGEST = max(map(len, _REPLACED))


def clean_up(text: str) -> str:
    """The text without the spaces before punctuation and contractions, as transformers removes them."""
    for spaced in _REPLACED:
        text = text.replace(spaced, spaced.strip())
    return text


class CleanUp:
    """`clean_up` of a text that comes in parts: what it returns adds up to the cleaned whole.

    A part is held back until a place is reached that no replacement spans: before it lie as many characters without a
    space as the longest replaced text has, less one.
    """

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> str:
        self._held += text
        for end in range(len(self._held), _LONGEST - 2, -1):
            if " " not in self._held[end - _LONGEST + 1 : end]:
                whole, self._held = self._held[:end], self._held[end:]
                return clean_up(whole)
        return ""

    def finish(self) -> str:
        whole, self._held = self._held, ""
        return clean_up(whole)
