"""The Transformer as published (Vaswani et al. 2017, arXiv 1706.03762), with one embedding for all three uses."""

from __future__ import annotations

from germinal.models.families.family import root_of_width
from germinal.models.families.own_layout import own_family

FAMILY = own_family(
    "transformer",
    "arXiv 1706.03762",
    {
        "stacks": "encoder-decoder",
        "norm": "layer",
        "norm_eps": 1e-6,
        "norm_placement": "post",
        "block": "sequential",
        "positions": "sinusoidal",
        "activation": "relu",
        "gated": False,
        "attention_bias": True,
        "attention_output_bias": True,
        "feed_forward_bias": True,
        "embedding_scale": root_of_width,
        "tie_embeddings": True,
    },
)
