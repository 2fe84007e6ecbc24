"""How a checkpoint makes one vector of a text: sentence-transformers' files (Reimers and Gurevych, arXiv 1908.10084).

modules.json lists the modules in order: the network, a pooling, dense layers, a normalisation to unit length. Prompts
to put before a text ("query: ") are in config_sentence_transformers.json, by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from germinal import storage
from germinal.checkpoints.json_file import read_json, read_json_list
from germinal.checkpoints.references import refuse_escape
from germinal.checkpoints.safetensors_file import read_weights, write_weights
from germinal.errors import CheckpointError, UnsupportedError

_MODES = {
    "mean": "pooling_mode_mean_tokens",
    "first": "pooling_mode_cls_token",
    "last": "pooling_mode_lasttoken",
    "max": "pooling_mode_max_tokens",
}
_ALL_MODES = (*_MODES.values(), "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens")
_MODULES = "modules.json"
_PROMPTS = "config_sentence_transformers.json"
_TANH = "torch.nn.modules.activation.Tanh"
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    _TANH: torch.tanh,
    "torch.nn.modules.activation.ReLU": functional.relu,
    "torch.nn.modules.activation.GELU": functional.gelu,
    "torch.nn.modules.activation.SiLU": functional.silu,
    "torch.nn.modules.linear.Identity": lambda vectors: vectors,
}
"""By published name: the path of torch's class, which is looked up here and never imported."""


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A dense layer after the pooling.

    Attributes:
        weight: float32 [out, in].
        bias: float32 [out], or None.
        activation: Its published name.
    """

    weight: Tensor
    bias: Tensor | None
    activation: str

    @torch.inference_mode()
    def __call__(self, vectors: Tensor) -> Tensor:
        """[B, in] -> [B, out], in the vectors' precision and on their device."""
        bias = None if self.bias is None else self.bias.to(vectors)
        return _ACTIVATIONS[self.activation](functional.linear(vectors, self.weight.to(vectors), bias))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """How the hidden states of a text become one vector.

    Attributes:
        mode: "mean" over the tokens, "first", "last", "max" over the tokens, or "pooler" (the head of that name).
        dense: Layers after the pooling.
        normalized: Whether vectors are normalised to unit length.
        max_tokens: The longest text, including special tokens; None is the network's context window.
        prompts: Texts to put before a text, by name ("query", "passage").
        default_prompt: The name of the prompt that is used by default, or None.
    """

    mode: str = "mean"
    dense: tuple[Dense, ...] = ()
    normalized: bool = False
    max_tokens: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None


def read_pooling(folder: Path) -> Pooling | None:
    """The pooling of a folder, or None if it has none.

    Raises:
        CheckpointError: a file is missing or malformed.
        UnsupportedError: a module is not supported, or modules are in an unsupported order.
    """
    path = folder / _MODULES
    if not path.is_file():
        return None
    modules = [(str(module.get("type", "")).rpartition(".")[2], module) for module in read_json_list(path)]
    _check_order([kind for kind, _ in modules], path)
    folders = [(kind, folder / _inside(str(module.get("path", "")), path)) for kind, module in modules]
    pooling = next((place for kind, place in folders if kind == "Pooling"), None)
    if pooling is None:
        return None
    prompts, default = _read_prompts(folder)
    return Pooling(
        mode=_mode(pooling / "config.json"),
        dense=tuple(_read_dense(place) for kind, place in folders if kind == "Dense"),
        normalized=any(kind == "Normalize" for kind, _ in folders),
        max_tokens=_max_tokens(folder),
        prompts=prompts,
        default_prompt=default,
    )


def write_pooling(folder: Path, pooling: Pooling, hidden_size: int) -> None:
    """Write a pooling in sentence-transformers' files; nothing for "pooler", which has no module there."""
    if pooling.mode not in _MODES:
        return
    kinds = ["Transformer", "Pooling", *["Dense"] * len(pooling.dense), *(["Normalize"] if pooling.normalized else [])]
    paths = ["", *(f"{number}_{kind}" for number, kind in enumerate(kinds[1:], start=1))]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    storage.write_json(folder / _MODULES, modules)
    flags = {key: key == _MODES[pooling.mode] for key in _ALL_MODES}
    storage.write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": hidden_size, **flags})
    for dense, path in zip(pooling.dense, paths[2:], strict=False):
        _write_dense(folder / path, dense)
    if pooling.max_tokens is not None:
        storage.write_json(
            folder / "sentence_bert_config.json", {"max_seq_length": pooling.max_tokens, "do_lower_case": False}
        )
    if pooling.prompts:
        named = {"prompts": dict(pooling.prompts), "default_prompt_name": pooling.default_prompt}
        storage.write_json(folder / _PROMPTS, named)


def _check_order(kinds: Sequence[str], path: Path) -> None:
    order = ["Transformer", "Pooling", "Dense", "Normalize"]
    if strange := [kind for kind in kinds if kind not in order]:
        raise UnsupportedError(
            f"the module '{strange[0]}' is not supported.",
            where=str(path),
            hint=f"Known: {', '.join(sorted(order))}.",
        )
    places = [order.index(kind) for kind in kinds]
    repeated = any(kinds.count(kind) > 1 for kind in order if kind != "Dense")
    if places != sorted(places) or repeated or ("Dense" in kinds and "Pooling" not in kinds):
        raise UnsupportedError(
            f"the modules are in an unsupported order: {', '.join(kinds)}.",
            where=str(path),
            hint=f"The supported order is {', '.join(order)}.",
        )


def _inside(name: str, where: Path) -> str:
    refuse_escape(name, str(where))
    return name


def _read_dense(folder: Path) -> Dense:
    config = read_json(folder / "config.json")
    where = str(folder / "config.json")
    activation = config.get("activation_function", _TANH)
    if activation not in _ACTIVATIONS:
        raise UnsupportedError(f"activation '{activation}' is not supported.", where=where)
    for key in ("module_input_name", "module_output_name"):
        if config.get(key, "sentence_embedding") != "sentence_embedding":
            raise UnsupportedError(f"{key} is '{config[key]}'.", where=where)
    stored = read_weights(folder)
    wanted = {"linear.weight"} | ({"linear.bias"} if config.get("bias", True) else set())
    if stored.keys() != wanted:
        raise CheckpointError(
            f"has the tensors {', '.join(sorted(stored))}, not {', '.join(sorted(wanted))}.", where=str(folder)
        )
    tensors = {name: tensor.load(torch.float32) for name, tensor in stored.items()}
    weight, bias = tensors["linear.weight"], tensors.get("linear.bias")
    expected = [config.get("out_features"), config.get("in_features")]
    if list(weight.shape) != expected or (bias is not None and list(bias.shape) != expected[:1]):
        raise CheckpointError(f"linear.weight {list(weight.shape)} where {expected} is expected.", where=str(folder))
    return Dense(weight, bias, activation)


def _write_dense(folder: Path, dense: Dense) -> None:
    out_features, in_features = dense.weight.shape
    described = {
        "in_features": in_features,
        "out_features": out_features,
        "bias": dense.bias is not None,
        "activation_function": dense.activation,
    }
    storage.write_json(folder / "config.json", described)
    bias = {} if dense.bias is None else {"linear.bias": dense.bias}
    write_weights(folder, {"linear.weight": dense.weight, **bias})


def _read_prompts(folder: Path) -> tuple[dict[str, str], str | None]:
    path = folder / _PROMPTS
    if not path.is_file():
        return {}, None
    config = read_json(path)
    prompts, default = config.get("prompts") or {}, config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise CheckpointError("must be an object that maps names to texts.", where=f"{path}: prompts")
    if default is not None and default not in prompts:
        raise CheckpointError(f"there is no prompt '{default}'.", where=f"{path}: default_prompt_name")
    return {name: text for name, text in prompts.items() if text}, default if prompts.get(default) else None


def _mode(path: Path) -> str:
    config = read_json(path)
    if config.get("include_prompt") is False:
        raise UnsupportedError("does not pool the prompt's tokens, which is not supported.", where=str(path))
    named = config.get("pooling_mode")
    asked = [key for key in _ALL_MODES if config.get(key)] if named is None else [f"pooling_mode_{named}"]
    short = {"pooling_mode_mean": "mean", "pooling_mode_cls": "first", "pooling_mode_max": "max"}
    modes = [mode for mode, key in _MODES.items() if key in asked] + [short[key] for key in asked if key in short]
    if len(modes) != 1 or len(asked) != 1:
        raise UnsupportedError(
            f"the pooling by {', '.join(asked) or 'nothing'} is not supported.",
            where=str(path),
            hint=f"One of these is: {', '.join(_MODES)}.",
        )
    return modes[0]


def _max_tokens(folder: Path) -> int | None:
    path = folder / "sentence_bert_config.json"
    if not path.is_file():
        return None
    config = read_json(path)
    if config.get("do_lower_case"):
        raise UnsupportedError("lower-cases texts before tokenizing, which is not supported.", where=str(path))
    length = config.get("max_seq_length")
    if length is not None and not (isinstance(length, int) and length > 0):
        raise CheckpointError(f"max_seq_length is {length!r}.", where=str(path))
    return length
