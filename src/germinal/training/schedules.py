"""Learning rate schedules by name: a factor in (0, 1] for each update.

Warm-up is linear, from 1 / W at the first update to 1 at the W-th, and no update of a run has a factor of zero: an
update that changes nothing would waste a batch. After it, with x in [0, 1) the part of the rest that is over:

    constant 1        linear 1 - x        cosine (1 + cos pi x) / 2     (Loshchilov & Hutter 2016, arXiv 1608.03983)
"""

from __future__ import annotations

import math
from collections.abc import Callable

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda over: 1.0,
    "linear": lambda over: 1.0 - over,
    "cosine": lambda over: (1.0 + math.cos(math.pi * over)) / 2,
}


def learning_rate_factor(schedule: str, step: int, warmup_steps: int, total_steps: int) -> float:
    """The factor of update `step`, counted from 0, of a run of `total_steps`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return SCHEDULES[schedule]((step - warmup_steps) / (total_steps - warmup_steps))
