"""The likeliest words for a masked place (BERT, Devlin et al. 2018, arXiv 1810.04805, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from germinal.errors import SettingError, UnsupportedError
from germinal.reading.reader import Reader


@dataclass(frozen=True, slots=True)
class Filling:
    """A word for a masked place.

    Attributes:
        word: The word.
        probability: Of its token among the whole vocabulary, from 0 to 1.
        token_id: Its token.
        text: The whole text with the word in its place.
    """

    word: str
    probability: float
    token_id: int
    text: str


def fill_mask(reader: Reader, text: str, top_k: int = 5) -> list[list[Filling]]:
    """The likeliest words for each masked place of a text, the likeliest first.

    Args:
        top_k: How many words for each place.

    Raises:
        UnsupportedError: the model was not made to fill masks.
        SettingError: the text has no mask, or `top_k` is out of range.
        ContextWindowError: the text has more tokens than the model reads.
    """
    reader.require_head("fill masks", "masked-lm")
    mask_id = reader.tokenizer.mask_id
    if mask_id is None:
        raise UnsupportedError("the tokenizer names no mask token.", where=reader.name)
    if not 1 <= top_k <= reader.config.vocab_size:
        raise SettingError(f"must lie between 1 and {reader.config.vocab_size:,}, not {top_k}.", where="top_k")
    (encoding,) = reader.tokenize([text])
    places = [place for place, id in enumerate(encoding.ids) if id == mask_id]
    if not places:
        mask = reader.tokenizer.special_tokens["mask_token"]
        raise SettingError("has no mask.", where="text", hint=f"Write {mask} where a word is wanted.")
    (batch,) = reader.batches([encoding])
    with torch.inference_mode():
        likely, best = reader.network.logits(batch.hidden_states[0, places]).float().softmax(-1).topk(top_k)
    return [
        [
            _filling(reader, encoding.ids, place, token, probability, len(places) == 1)
            for token, probability in zip(tokens, probabilities, strict=True)
        ]
        for place, tokens, probabilities in zip(places, best.tolist(), likely.tolist(), strict=True)
    ]


def _filling(reader: Reader, ids: list[int], place: int, token: int, probability: float, alone: bool) -> Filling:
    filled = [*ids[:place], token, *ids[place + 1 :]]
    # With other masks in the text the special tokens stay, or those masks would vanish.
    text = reader.tokenizer.decode(filled, skip_special_tokens=alone)
    return Filling(reader.tokenizer.decode([token], skip_special_tokens=False).strip(), probability, token, text)
