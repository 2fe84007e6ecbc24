"""The loss of a classifier: cross-entropy of each example's class.

    L = - sum over examples b of log softmax(z_b)[y_b]        z = logits, y = classes; L in [0, inf)

An untrained head gives about ln C per example. The loss is a sum; the caller divides it, as in `language_modelling`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed cross-entropy of the examples' classes; C classes.

    Args:
        logits: [B, C].
        labels: [B], each in [0, C).

    Returns:
        A float32 scalar in [0, inf).
    """
    return F.cross_entropy(logits.float(), labels, reduction="sum")
