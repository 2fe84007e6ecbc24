"""Blocks by name: which of them can stand in the decoder of two stacks."""

from __future__ import annotations

import pytest
import torch

from germinal.errors import UnsupportedError
from germinal.layers.blocks import BLOCKS
from germinal.models.config import TransformerConfig
from germinal.models.transformer import Transformer

SIZES = {"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_layers": 1, "num_heads": 2}
CONFIG = {**SIZES, "num_kv_heads": 2, "head_dim": 4, "max_position_embeddings": 16}


@pytest.mark.parametrize(("block", "placement"), BLOCKS)
def test_a_block_stands_in_two_stacks_or_says_why_not(block: str, placement: str) -> None:
    shape = {"block": block, "norm_placement": placement}
    ids = torch.tensor([[1, 2, 3]])
    assert Transformer(TransformerConfig(**CONFIG, **shape))(ids).shape == (1, 3, 8)  # type: ignore[arg-type]
    two_stacks = TransformerConfig(**CONFIG, **shape, stacks="encoder-decoder")  # type: ignore[arg-type]
    if placement == "sandwich" or block == "parallel":
        with pytest.raises(UnsupportedError, match="needs cross-attention") as caught:
            Transformer(two_stacks)
        assert caught.value.where == "config.block, config.norm_placement"
    else:
        assert Transformer(two_stacks)(ids, decoder_input_ids=ids).shape == (1, 3, 8)
