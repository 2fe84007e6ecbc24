"""Learning rate schedules: their ends, their order, and transformers' where the definitions meet."""

from __future__ import annotations

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from germinal.training.schedules import SCHEDULES, learning_rate_factor


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 200), st.data())
def test_rises_to_one_then_never_rises_and_never_stands_still(schedule: str, total: int, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, total - 1))
    factors = [learning_rate_factor(schedule, step, warmup, total) for step in range(total)]
    assert factors[warmup] == 1.0
    assert factors[:warmup] == pytest.approx([(step + 1) / warmup for step in range(warmup)])
    assert all(left >= right for left, right in zip(factors[warmup:], factors[warmup + 1 :], strict=False))
    assert min(factors) > 0


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_after_warmup_it_is_transformers(schedule: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = transformers.get_scheduler(schedule, optimizer, num_warmup_steps=5, num_training_steps=30)
    (expected,) = theirs.lr_lambdas
    for step in range(5, 30):
        assert learning_rate_factor(schedule, step, 5, 30) == pytest.approx(expected(step))
