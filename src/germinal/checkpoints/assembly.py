"""Config and weights from the files of a checkpoint, checked against each other before values are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from germinal.checkpoints.stored import Stored
from germinal.errors import CheckpointError, SettingError, listed
from germinal.models.config import TransformerConfig
from germinal.models.transformer import Transformer
from germinal.models.weight_rules import Transform, WeightRules

_SAME_MODEL = "Config and weights must come from the same model."
_TIED_HEAD = "lm_head.weight"


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
    expected = _expected_shapes(config, len(stored), where)
    planned: set[str] = set()
    loading: list[tuple[str, tuple[str, ...], Transform]] = []
    extra: list[str] = []
    misshapen: list[str] = []
    for theirs, tensor in stored.items():
        found = rules.ours(theirs)
        if found is None:
            if not rules.ignores(theirs):
                extra.append(theirs)
            continue
        names, transform = found
        if planned.isdisjoint(names) and expected.keys() >= set(names):
            planned.update(names)
            loading.append((theirs, names, transform))
            if _shapes_after(transform, tensor.shape) != [expected[name] for name in names]:
                wanted = " + ".join(str(list(expected[name])) for name in names)
                misshapen.append(f"{theirs} {list(tensor.shape)} where {wanted} is expected")
        elif not (names == (_TIED_HEAD,) and config.tie_embeddings):
            extra.append(theirs)
    missing = list(dict.fromkeys(_published(rules, name) for name in expected if name not in planned))
    _refuse(missing, extra, misshapen, where)
    state = {
        name: tensor.to(dtype)
        for theirs, names, transform in loading
        for name, tensor in zip(names, _transformed(stored[theirs], transform, dtype), strict=True)
    }
    _check_tied_head(stored, rules, config, state, where)
    return {name: state[name] for name in expected}


def _expected_shapes(config: TransformerConfig, stored: int, where: str) -> dict[str, tuple[int, ...]]:
    layers = config.num_layers + (config.encoder_layers if config.stacks == "encoder-decoder" else 0)
    if layers > stored:  # checked first, since a network of that depth would take long to build
        raise CheckpointError(
            f"the config has {layers:,} layers, but there are only {stored:,} tensors.",
            where=where,
            hint=_SAME_MODEL,
        )
    try:
        return {name: tuple(t.shape) for name, t in Transformer(config, device="meta").state_dict().items()}
    except RuntimeError as error:  # torch counts bytes in 64 bits
        raise CheckpointError("the config has a tensor larger than any memory.", where=where) from error


def has_own_head(stored: Mapping[str, Stored], rules: WeightRules) -> bool:
    """Whether the checkpoint has an output matrix that differs from the embedding."""
    head, embedding = (stored.get(_published(rules, name)) for name in (_TIED_HEAD, "embed_tokens.weight"))
    if head is None or embedding is None:
        return head is not None
    return head.shape != embedding.shape or not torch.equal(head.load(torch.float32), embedding.load(torch.float32))


def _shapes_after(transform: Transform, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    try:
        return [tuple(tensor.shape) for tensor in transform.to_ours(torch.empty(shape, device="meta"))]
    except (CheckpointError, RuntimeError, IndexError):  # a shape that the transform cannot be applied to
        return []


def _transformed(stored: Stored, transform: Transform, dtype: torch.dtype) -> tuple[Tensor, ...]:
    return transform.to_ours(stored.load(torch.float32 if transform.computes else dtype))


def _published(rules: WeightRules, ours: str) -> str:
    found = rules.theirs(ours)
    return found[0] if found else ours


def _refuse(missing: list[str], extra: list[str], misshapen: list[str], where: str) -> None:
    parts = [
        f"{label}: {listed(names)}"
        for label, names in (("missing", missing), ("not part of the model", extra), ("of another shape", misshapen))
        if names
    ]
    if parts:
        raise CheckpointError(
            f"the weights do not match the config; {'; '.join(parts)}.",
            where=where,
            hint=_SAME_MODEL,
        )


def _check_tied_head(
    stored: Mapping[str, Stored], rules: WeightRules, config: TransformerConfig, state: Mapping[str, Tensor], where: str
) -> None:
    """Refuse a stored output matrix that differs from the embedding, if the config ties the two."""
    head = _published(rules, _TIED_HEAD)
    if not config.tie_embeddings or head not in stored:
        return
    embedding = state["embed_tokens.weight"]
    if not torch.equal(stored[head].load(embedding.dtype), embedding):
        raise CheckpointError(
            f"the config ties the output matrix to the embedding, but {head} has other values.", where=where
        )
