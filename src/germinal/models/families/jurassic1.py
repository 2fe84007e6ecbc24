"""Jurassic-1 (Lieber et al. 2021, "Jurassic-1: Technical Details and Evaluation"): GPT-2, wider and shallower.

Its weights and code were never published.
"""

from __future__ import annotations

from germinal.models.families.gpt2 import DEFAULTS
from germinal.models.families.own_layout import own_family

FAMILY = own_family("jurassic1", "Lieber et al. 2021", {**DEFAULTS, "activation": "gelu"})
