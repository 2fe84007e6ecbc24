"""Recurrent language models, from before the Transformer: torch's GRU (Cho et al. 2014, arXiv 1406.1078) and LSTM
(Hochreiter & Schmidhuber 1997) between an embedding and an output matrix (Mikolov et al. 2010).

They are here to be compared with the Transformer: `forward` and `logits` are called in the same way, the same loop
trains them, and the same engine decodes from them through `generation.backends.rnn_backend`. Instead of a cache of keys
and values they have a state of fixed size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from germinal.errors import SettingError, UnsupportedError
from germinal.layers.embedding import embedding
from germinal.layers.linear import Linear, tied_linear

State = tuple[Tensor, ...]
"""The recurrent state between two tokens, [L, B, D] each: (h,) of a GRU, (h, c) of an LSTM."""

CELLS: dict[str, Callable[..., nn.Module]] = {"gru": nn.GRU, "lstm": nn.LSTM}


@dataclass(frozen=True, slots=True, kw_only=True)
class RNNConfig:
    """What a recurrent language model is built from.

    Attributes:
        vocab_size: V.
        hidden_size: D, of the embedding, the state and the output.
        num_layers: L.
        cell: A name in `CELLS`.
        dropout: Probability of dropping a value between layers while training, in [0, 1).
        tie_embeddings: Whether the output matrix is the embedding (Press & Wolf 2016, arXiv 1608.05859).
        max_position_embeddings: The most tokens of a sequence. The recurrent state has no such limit; this one bounds
            the memory of a sequence while it is generated.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int = 1
    cell: Literal["gru", "lstm"] = "lstm"
    dropout: float = 0.0
    tie_embeddings: bool = False
    max_position_embeddings: int = 8192

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_layers", "max_position_embeddings"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SettingError(f"must be a positive whole number, not {value!r}.", where=f"config.{name}")
        if not 0 <= self.dropout < 1:
            raise SettingError(f"must be in [0, 1), not {self.dropout!r}.", where="config.dropout")
        if self.cell not in CELLS:
            raise UnsupportedError(
                f"no implementation of {self.cell!r}.", where="config.cell", hint=f"Known: {', '.join(CELLS)}."
            )


class RNNLanguageModel(nn.Module):
    """Token ids to hidden states to logits, one token after the other."""

    def __init__(self, config: RNNConfig, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = embedding(config.vocab_size, config.hidden_size, device)
        self.recurrent = CELLS[config.cell](
            input_size=config.hidden_size,
            hidden_size=config.hidden_size,
            num_layers=config.num_layers,
            dropout=config.dropout if config.num_layers > 1 else 0.0,  # torch applies it between layers only
            batch_first=True,
            device=device,
        )
        self.lm_head = (
            tied_linear(self.embed_tokens)
            if config.tie_embeddings
            else Linear(config.hidden_size, config.vocab_size, bias=False, device=device)
        )

    @property
    def device(self) -> torch.device:
        return self.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embed_tokens.weight.dtype

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Hidden states of a batch of sequences, [B, T] -> [B, T, D].

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], nonzero where a token is real; padding on either side and holes are fine. The hidden
                states at the others are meaningless.
        """
        if attention_mask is None or bool(attention_mask.all()):
            return self.advance(input_ids)[0]
        # Real tokens run first, in their order, so that padding does not enter the state before them.
        order = (attention_mask == 0).int().argsort(dim=-1, stable=True)  # [B, T]
        hidden_states, _ = self.advance(input_ids.gather(-1, order))
        back = order[..., None].expand_as(hidden_states)
        return torch.zeros_like(hidden_states).scatter(1, back, hidden_states)

    def advance(
        self, input_ids: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Run the next tokens of some sequences.

        Args:
            input_ids: [B, T].
            state: The state after the previous tokens; None at the beginning.
            lengths: [B], on the CPU: the number of real tokens of each row, at least one. None is T for all.

        Returns:
            Hidden states [B, T, D], zeros after a row's end, and the state after each row's last token.
        """
        carried = None if state is None else state if len(state) > 1 else state[0]
        embedded = self.embed_tokens(input_ids)
        if lengths is None:
            hidden_states, carried = self.recurrent(embedded, carried)
        else:
            packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
            packed, carried = self.recurrent(packed, carried)
            hidden_states, _ = pad_packed_sequence(packed, batch_first=True, total_length=input_ids.shape[1])
        return hidden_states, carried if isinstance(carried, tuple) else (carried,)

    def initial_state(self, batch_size: int) -> State:
        """The state before any token: zeros."""
        shape = (self.config.num_layers, batch_size, self.config.hidden_size)
        count = 2 if self.config.cell == "lstm" else 1
        return tuple(torch.zeros(shape, dtype=self.dtype, device=self.device) for _ in range(count))

    def logits(self, hidden_states: Tensor) -> Tensor:
        """[..., D] -> [..., V]."""
        logits: Tensor = self.lm_head(hidden_states)
        return logits

    def num_parameters(self) -> int:
        """The number of weights; a tied output matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())
