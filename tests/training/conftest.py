"""A random LLaMA twice: transformers' own with a PEFT adapter, and ours on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from germinal.models.families.llama import FAMILY
from germinal.models.transformer import Transformer


def ours_of(theirs: Any) -> Transformer:
    """Our network on copies of the weights of a transformers model."""
    config = FAMILY.config_from_hf(theirs.config.to_dict())
    rules = FAMILY.hf_rules(config)
    network = Transformer(config, device="meta")
    state = {}
    for name, tensor in theirs.state_dict().items():
        found = rules.ours(name)
        assert found is not None
        if found[0] != "lm_head.weight" or not config.tie_embeddings:
            state[found[0]] = tensor.detach().clone()
    network.load_state_dict(state, assign=True)
    return network.eval()


@pytest.fixture
def make_pair(make_llama_folder: Callable[..., Path]) -> Callable[..., tuple[Transformer, Any]]:
    """`make_pair(**config)`: (our network, transformers' model), equal and separate."""
    from transformers import AutoModelForCausalLM

    def make(dtype: torch.dtype = torch.float32, **overrides: Any) -> tuple[Transformer, Any]:
        theirs = AutoModelForCausalLM.from_pretrained(make_llama_folder(**overrides), dtype=dtype)
        return ours_of(theirs), theirs

    return make
