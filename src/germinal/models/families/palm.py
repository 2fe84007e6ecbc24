"""PaLM (Chowdhery et al. 2022, arXiv 2204.02311, section 2). Its weights and code were never published.

The paper draws the tied embedding from N(0, 1) and multiplies the logits by 1 / sqrt(D) (section 5). Here the embedding
is smaller by that factor, and its output is multiplied by sqrt(D): the same function.
"""

from __future__ import annotations

from germinal.models.families.family import root_of_width
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
        "embedding_scale": root_of_width,
        "tie_embeddings": True,
    },
)
