"""Config and weights from the files of a checkpoint, checked against each other before values are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from germinal.checkpoints.expected_weights import SAME_MODEL, check_sizes, expected_shapes
from germinal.checkpoints.stored import Stored
from germinal.checkpoints.weight_plan import WeightPlan, check_computed, check_copies, plan_weights, refuse_mismatch
from germinal.errors import CheckpointError, SettingError
from germinal.models.config import TransformerConfig
from germinal.models.weight_rules import Transform, WeightRules


def read_config(make: Callable[[], TransformerConfig]) -> TransformerConfig:
    """The config that `make` gives; whatever it raises about a value is an error of the checkpoint.

    Raises:
        CheckpointError: a value has the wrong type or is impossible.
    """
    try:
        return make()
    except SettingError as error:
        raise CheckpointError(error.what, where=error.where) from error
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"its config has a value of the wrong type: {error}.") from error


def assemble(
    stored: Mapping[str, Stored], rules: WeightRules, config: TransformerConfig, dtype: torch.dtype, where: str
) -> dict[str, Tensor]:
    """The state dict of a config's network, in `dtype`. Names and shapes are checked before any tensor is read.

    Args:
        stored: The tensors of the checkpoint, by published name.
        rules: From published names to ours.
        config: The network's config.
        dtype: Of the result.
        where: The checkpoint, for messages.

    Raises:
        CheckpointError: tensors are missing, extra or of another shape; the message lists them.
        UnsupportedError: a tensor's stored dtype is not read.
    """
    check_sizes(config, stored, where)
    expected = expected_shapes(config)
    plan = plan_weights(stored, rules, config, expected)
    refuse_mismatch(plan, list(_misshapen(plan, stored, expected)), where, hint=SAME_MODEL)
    check_copies(stored, plan, rules, where)
    check_computed(stored, rules, where)
    state = {name: torch.full(expected[name], value, dtype=dtype) for name, value in plan.absent.items()}
    for source in plan.sources:
        tensors = _transformed(stored[source.theirs], source.transform, dtype)
        state |= {name: tensor.to(dtype) for name, tensor in zip(source.names, tensors, strict=True)}
    return {name: state[name] for name in expected}


def _misshapen(
    plan: WeightPlan, stored: Mapping[str, Stored], expected: Mapping[str, tuple[int, ...]]
) -> Iterator[str]:
    """What has another shape than the network's tensors, in words."""
    for source in plan.sources:
        shape, wanted = stored[source.theirs].shape, [expected[name] for name in source.names]
        if shapes_after(source.transform, shape) != wanted:
            yield f"{source.theirs} {list(shape)} where {' + '.join(str(list(each)) for each in wanted)} is expected"


def shapes_after(transform: Transform, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shapes of our tensors that a published one of this shape becomes; none if it cannot become any."""
    try:
        return [tuple(tensor.shape) for tensor in transform.to_ours(torch.empty(shape, device="meta"))]
    except (CheckpointError, RuntimeError, IndexError):  # a shape that the transform cannot be applied to
        return []


def _transformed(stored: Stored, transform: Transform, dtype: torch.dtype) -> tuple[Tensor, ...]:
    return transform.to_ours(stored.load(torch.float32 if transform.computes else dtype))
