"""PaLM (Chowdhery et al. 2022, arXiv 2204.02311, section 2). Its weights and code were never published."""

from __future__ import annotations

from germinal.models.families.own_layout import own_family

FAMILY = own_family(
    "palm",
    "arXiv 2204.02311",
    {
        "stacks": "decoder",
        "norm": "layer_unbiased",
        "norm_placement": "pre",
        "block": "parallel",
        "positions": "rotary",
        "activation": "silu",
        "gated": True,
        "num_kv_heads": 1,
        "tie_embeddings": True,
    },
)
