"""Prompts of a tuning run begin alike (an instruction, a system message): a batch computes that beginning once.

A prefix's states depend on nothing that follows, so that every row may look at the same ones, and its gradient is the
sum of what the rows ask for. The tokens of a batch then stand in one line: the prefix, then the rest of each row.

Shapes as in `germinal.layers`; P tokens of the prefix, R = T - P of the rest of a row, N = P + B R in all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from germinal.layers.attention import add_bias, attend
from germinal.layers.positions import Positions
from germinal.models.transformer import Transformer
from germinal.objectives.language_modelling import IGNORED

WORTH_SHARING = 4
"""Tokens from which sharing saves more than the mask of its attention costs."""


def shared_prefix(input_ids: Tensor, labels: Tensor) -> int:
    """Tokens [B, T] with which all rows begin, and none of which has a part in the loss; 0 where that is not worth it.

    One token before the first label is left to the rows: the label is predicted from it.
    """
    if len(input_ids) < 2:
        return 0
    alike = int((input_ids == input_ids[:1]).all(0).long().cumprod(0).sum())
    unlabelled = int((labels == IGNORED).all(0).long().cumprod(0).sum())
    length = min(alike, unlabelled - 1)
    return length if length >= WORTH_SHARING else 0


def hidden_states_after(network: Transformer, input_ids: Tensor, prefix: int) -> Tensor:
    """Hidden states of what follows the first `prefix` tokens, the same in all rows: [B, T] -> [B, R, D]."""
    rows, rest = len(input_ids), input_ids[:, prefix:]
    line = torch.cat((input_ids[0, :prefix], rest.flatten()))  # [N]
    hidden_states = network.hidden_states(line, SharedPrefixView(rows, prefix, rest.shape[1], line.device))
    return hidden_states[prefix:].reshape(*rest.shape, -1)


class SharedPrefixView:
    """The attention of a batch whose prefix stands in it once. Padding may only stand on the right.

    Args:
        rows, prefix, rest: B, P, R.
        device: Where the tokens are.
    """

    def __init__(self, rows: int, prefix: int, rest: int, device: torch.device) -> None:
        self._rows, self._prefix = rows, prefix
        places = torch.arange(prefix + rest, device=device)
        self.position_ids = torch.cat((places[:prefix], places[prefix:].repeat(rows)))  # [N]
        self._places = places
        self._visible = places[prefix:, None] >= places  # [R, P + R]

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, positions: Positions
    ) -> Tensor:
        """[N, H, E], [N, K, E] twice -> [N, H, E]."""
        first, places = self._prefix, self._places[None]
        start = [heads[None, :first].transpose(1, 2) for heads in (query, key, value)]  # [1, H, P, E]
        bias = add_bias(None, positions.bias(places[:, :first], places[:, :first]), True)
        of_prefix = attend(*start, scale=scale, mask=bias, causal=bias is None).transpose(1, 2)[0]  # [P, H, E]

        rows = [
            heads[first:].reshape(self._rows, -1, *heads.shape[1:]).transpose(1, 2)  # [B, H, R, E]
            for heads in (query, key, value)
        ]
        keys, values = (
            torch.cat((shared.expand(self._rows, -1, -1, -1), own), 2)  # [B, K, P + R, E]
            for shared, own in zip(start[1:], rows[1:], strict=True)
        )
        mask = add_bias(self._visible, positions.bias(places[:, first:], places), True)
        of_rows = attend(rows[0], keys, values, scale=scale, mask=mask).transpose(1, 2)  # [B, R, H, E]
        return torch.cat((of_prefix, of_rows.flatten(0, 1)))
