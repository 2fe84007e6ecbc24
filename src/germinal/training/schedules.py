"""Learning rate schedules by name: a factor in (0, 1] for each update.

Warm-up is linear, from 1 / W at the first update to 1 at the W-th. No update has a factor of zero, since that would
waste a batch. After the warm-up, with x in [0, 1) the fraction of the remaining updates that are done:

    constant 1        linear 1 - x        cosine (1 + cos pi x) / 2     (Loshchilov & Hutter 2016, arXiv 1608.03983)
"""

from __future__ import annotations

import math
from collections.abc import Callable

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: (1.0 + math.cos(math.pi * done)) / 2,
}


def learning_rate_factor(schedule: str, step: int, warmup_steps: int, total_steps: int) -> float:
    """The factor of update `step`, counted from 0, in a run of `total_steps`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return SCHEDULES[schedule]((step - warmup_steps) / (total_steps - warmup_steps))
