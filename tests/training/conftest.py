"""A random LLaMA twice: transformers' own with a PEFT adapter, and ours on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import ours_from

from germinal.models.transformer import Transformer


@pytest.fixture
def make_pair(make_llama_folder: Callable[..., Path]) -> Callable[..., tuple[Transformer, Any]]:
    """`make_pair(**config)`: (our network, transformers' model), equal and separate."""
    from transformers import AutoModelForCausalLM

    def make(dtype: torch.dtype = torch.float32, **overrides: Any) -> tuple[Transformer, Any]:
        theirs = AutoModelForCausalLM.from_pretrained(make_llama_folder(**overrides), dtype=dtype)
        return ours_from(theirs), theirs

    return make
