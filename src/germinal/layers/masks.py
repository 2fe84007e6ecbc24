"""Who sees whom: every mask of the field, built from a few facts about a batch.

- causal (Radford et al. 2018): a token sees itself and earlier tokens; otherwise every token sees all (BERT);
- sliding window (Beltagy et al. 2020, arXiv 2004.05150, section 3.1): a token sees those closer than a given distance;
- prefix-LM (UniLM, arXiv 1905.03197, section 2.3; T5, arXiv 1910.10683, section 3.2.1): the tokens of a prefix see
  each other, the tokens after it are causal;
- packed documents (Krell et al. 2021, arXiv 2107.02027, section 3.2): a row holds several documents, and a token sees
  only its own;
- padding on either side, and holes: no token sees them.

They combine: a token sees what all of them let it see. Shapes as in `germinal.layers`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Masking:
    """What decides who sees whom in a batch [B, T]; None for what does not restrict anything.

    Attributes:
        causal: Whether a token sees only itself and earlier ones.
        real: bool [B, T], False at padding and holes.
        prefix: bool [B, T], True in the prefix of a causal row or document.
        document_ids: [B, T], equal for tokens of one document.
    """

    causal: bool
    real: Tensor | None = None
    prefix: Tensor | None = None
    document_ids: Tensor | None = None

    @classmethod
    def of(
        cls,
        *,
        causal: bool,
        attention_mask: Tensor | None = None,
        prefix_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> Masking:
        """The masking of a batch. A mask that restricts nothing is dropped, which saves work in every layer."""
        prefix = prefix_mask if causal and prefix_mask is not None and bool(prefix_mask.any()) else None
        alone = document_ids is None or bool((document_ids == document_ids[:, :1]).all())
        return cls(
            causal,
            real=real_tokens(attention_mask),
            prefix=None if prefix is None else prefix.bool(),
            document_ids=None if alone else document_ids,
        )

    def visible(self, length: int, window: int | None, device: torch.device) -> Tensor | None:
        """bool [B or 1, 1, T, T], True where a query sees a key; None where `causal` is the only restriction."""
        window = None if window is None or window >= length else window
        if window is None and self.real is None and self.prefix is None and self.document_ids is None:
            return None
        back = self._places_back(length, device)  # [B or 1, T, T]
        visible = back >= 0 if self.causal else torch.ones_like(back, dtype=torch.bool)
        if self.prefix is not None:
            visible = visible | (self.prefix[:, :, None] & self.prefix[:, None])
        if window is not None:
            visible = visible & (back.abs() < window)
        if self.document_ids is not None:
            visible = visible & same_document(self.document_ids, self.document_ids)
        if self.real is not None:
            visible = visible & self.real[:, None]
        # A padding token sees itself: a row that sees nothing would be 0 / 0, and its NaN would spread.
        return (visible | torch.eye(length, dtype=torch.bool, device=device))[:, None]

    def _places_back(self, length: int, device: torch.device) -> Tensor:
        """How many positions of its document a key [.., T] is before a query [.., T, 1]; negative where it is after."""
        if self.document_ids is None:
            places = torch.arange(length, device=device)[None]
        else:
            places = places_in_documents(self.document_ids)
        return places[:, :, None] - places[:, None]


def real_tokens(attention_mask: Tensor | None) -> Tensor | None:
    """The mask as bool; None where all tokens are real."""
    return None if attention_mask is None or bool(attention_mask.all()) else attention_mask.bool()


def same_document(query_ids: Tensor, key_ids: Tensor) -> Tensor:
    """[B, T], [B, S] -> bool [B, T, S]."""
    return query_ids[:, :, None] == key_ids[:, None]


def places_in_documents(document_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """How many tokens of its document precede each token, [B, T]: its position when the document is alone in a row.

    With a mask only real tokens count, and padding is at 0.
    """
    before = same_document(document_ids, document_ids).tril(-1)
    if attention_mask is None:
        return before.sum(-1)
    return (before & attention_mask.bool()[:, None]).sum(-1) * attention_mask


def longest_document(document_ids: Tensor) -> int:
    """The number of tokens of the longest document in a batch [B, T]."""
    return int(places_in_documents(document_ids).max()) + 1 if document_ids.numel() else 0


def document_starts(document_ids: Tensor) -> Tensor:
    """bool [B, T], True at the first token of each document."""
    starts = torch.ones_like(document_ids, dtype=torch.bool)
    starts[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    return starts


def cross_mask(
    memory_real: Tensor | None, document_ids: Tensor | None = None, memory_document_ids: Tensor | None = None
) -> Tensor | None:
    """Which of the encoder's tokens [B, S] each token of a decoder [B, T] sees: bool [B, 1, 1 or T, S]; None for all.

    Args:
        memory_real: bool [B, S]; None where all are real.
        document_ids, memory_document_ids: [B, T] and [B, S], equal where target and source belong together.
    """
    visible = None if memory_real is None else memory_real[:, None]  # [B, 1, S]
    if document_ids is not None and memory_document_ids is not None:
        same = same_document(document_ids, memory_document_ids)
        visible = same if visible is None else visible & same
    return None if visible is None else visible[:, None]


def add_bias(visible: Tensor | None, bias: Tensor | None) -> Tensor | None:
    """A mask and an additive bias as one tensor; either may be absent."""
    if bias is None or visible is None:
        return visible if bias is None else bias
    return bias.masked_fill(~visible, torch.finfo(bias.dtype).min)
