"""The prompts of a tuning run share a prefix (an instruction, a system message), which a batch computes only once.

A prefix's hidden states do not depend on what follows, so that all rows can attend to the same ones; its gradient is
the sum over the rows. The tokens of a batch are concatenated: the prefix, then the rest of each row.

Shapes as in `germinal.layers`; P tokens in the prefix, R = T - P in the rest of a row, N = P + B R in all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from germinal.errors import UnsupportedError
from germinal.layers.attention import Attention, AttentionView, CrossAttention, Span
from germinal.layers.masks import add_bias
from germinal.layers.positions import Positions
from germinal.models.transformer import Transformer
from germinal.objectives.language_modelling import IGNORED

WORTH_SHARING = 4
"""The shortest prefix worth sharing: a shorter one saves less than the attention mask costs."""


def shared_prefix(input_ids: Tensor, labels: Tensor) -> int:
    """The length of the prefix that all rows [B, T] share and that has no label; 0 if it is not worth sharing.

    The token before the first label is not part of it, since the label is predicted from that token in each row.
    """
    if len(input_ids) < 2:
        return 0
    alike = int((input_ids == input_ids[:1]).all(0).long().cumprod(0).sum())
    unlabelled = int((labels == IGNORED).all(0).long().cumprod(0).sum())
    length = min(alike, unlabelled - 1)
    return length if length >= WORTH_SHARING else 0


def hidden_states_after(network: Transformer, input_ids: Tensor, prefix: int) -> Tensor:
    """Hidden states of the tokens after the first `prefix`, which all rows share: [B, T] -> [B, R, D]."""
    rows, rest = len(input_ids), input_ids[:, prefix:]
    line = torch.cat((input_ids[0, :prefix], rest.flatten()))  # [N]
    hidden_states = network.hidden_states(line, SharedPrefixView(rows, prefix, rest.shape[1], line.device))
    return hidden_states[prefix:].reshape(*rest.shape, -1)


class SharedPrefixView(AttentionView):
    """The attention of a batch that holds its shared prefix once. Padding must be on the right.

    Args:
        rows, prefix, rest: B, P, R.
        device: The tokens' device.
    """

    def __init__(self, rows: int, prefix: int, rest: int, device: torch.device) -> None:
        super().__init__()
        self._rows, self._prefix = rows, prefix
        places = torch.arange(prefix + rest, device=device)
        self.position_ids = torch.cat((places[:prefix], places[prefix:].repeat(rows)))  # [N]
        self._places = places

    def spans(self, layer: int, key: Tensor, value: Tensor, attention: Attention) -> Sequence[Span]:
        """The prefix over itself, then the rest of each row over prefix and row."""
        first = self._prefix
        mask_of_prefix, mask_of_rows = self.cached(
            ("masks", attention.window, attention.positions), lambda: self._masks(attention.window, attention.positions)
        )
        keys, values = ((heads[:first], heads[first:].view(self._rows, -1, *heads.shape[1:])) for heads in (key, value))
        return [
            Span(keys[0][None].transpose(1, 2), values[0][None].transpose(1, 2), mask_of_prefix, slice(first)),
            Span(self._behind(*keys), self._behind(*values), mask_of_rows, slice(first, None)),
        ]

    def _behind(self, prefix: Tensor, rows: Tensor) -> Tensor:
        """What each row attends over: [P, K, E], [B, R, K, E] -> [B, K, P + R, E]."""
        return torch.cat((prefix.transpose(0, 1).expand(self._rows, -1, -1, -1), rows.transpose(1, 2)), 2)

    def memory_spans(self, layer: int, attention: CrossAttention) -> Sequence[Span]:
        """Unsupported: an encoder-decoder reads its prompts in the encoder, where they cannot be shared."""
        raise UnsupportedError("the prompts of an encoder-decoder cannot share a prefix.")

    def _masks(self, window: int | None, positions: Positions) -> tuple[Tensor | None, Tensor | None]:
        """The masks of the prefix, [1, 1, P, P], and of the rest of each row, [1, 1, R, P + R]."""
        places, first = self._places, self._prefix
        distances = places[:, None] - places
        visible = (distances >= 0) if window is None else (distances >= 0) & (distances < window)
        of_prefix = positions.bias(places[None, :first], places[None, :first])
        of_rows = positions.bias(places[None, first:], places[None])
        return add_bias(visible[None, None, :first, :first], of_prefix), add_bias(visible[None, None, first:], of_rows)
