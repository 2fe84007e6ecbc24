"""What sentence-transformers puts after the pooling: dense layers, layer norms, a normalisation to unit length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from germinal import storage
from germinal.checkpoints.json_file import read_json
from germinal.checkpoints.weights_files import read_weights, write_weights
from germinal.errors import CheckpointError, UnsupportedError

_TANH = "torch.nn.modules.activation.Tanh"
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    _TANH: torch.tanh,
    "torch.nn.modules.activation.ReLU": functional.relu,
    "torch.nn.modules.activation.GELU": functional.gelu,
    "torch.nn.modules.activation.SiLU": functional.silu,
    "torch.nn.modules.activation.Sigmoid": torch.sigmoid,
    "torch.nn.modules.linear.Identity": lambda vectors: vectors,
}
"""By published name: the path of torch's class, which is looked up here and never imported."""

_VECTOR = "sentence_embedding"
"""The name of a text's vector among the values that modules hand on."""


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A dense layer.

    Attributes:
        weight: float32 [out, in].
        bias: float32 [out], or None.
        activation: Its published name.
        residual: float32 [out, in], by which the input is added to the output; the input itself if it is the unit
            matrix; None if nothing is added.
    """

    kind: ClassVar[str] = "Dense"
    weight: Tensor
    bias: Tensor | None
    activation: str
    residual: Tensor | None = None

    @property
    def width(self) -> int:
        """Of its output."""
        return self.weight.shape[0]

    @torch.inference_mode()
    def __call__(self, vectors: Tensor) -> Tensor:
        """[B, in] -> [B, out], in the vectors' precision and on their device."""
        bias = None if self.bias is None else self.bias.to(vectors)
        out = _ACTIVATIONS[self.activation](functional.linear(vectors, self.weight.to(vectors), bias))
        return out if self.residual is None else out + functional.linear(vectors, self.residual.to(vectors))

    def write(self, folder: Path) -> None:
        """Write it as a module's folder."""
        out_features, in_features = self.weight.shape
        described: dict[str, Any] = {
            "in_features": in_features,
            "out_features": out_features,
            "bias": self.bias is not None,
            "activation_function": self.activation,
        }
        if self.residual is not None:
            described["use_residual"] = True
        storage.write_json(folder / "config.json", described)
        tensors = {"linear.weight": self.weight}
        if self.bias is not None:
            tensors["linear.bias"] = self.bias
        if self.residual is not None and in_features != out_features:
            tensors["residual.weight"] = self.residual
        write_weights(folder, tensors)


@dataclass(frozen=True, slots=True, eq=False)
class LayerNorm:
    """A layer norm with torch's default epsilon.

    Attributes:
        weight, bias: float32 [D].
    """

    kind: ClassVar[str] = "LayerNorm"
    weight: Tensor
    bias: Tensor

    @property
    def width(self) -> int:
        """Of its output."""
        return self.weight.shape[0]

    @torch.inference_mode()
    def __call__(self, vectors: Tensor) -> Tensor:
        """[B, D] -> [B, D]."""
        return functional.layer_norm(vectors, (self.width,), self.weight.to(vectors), self.bias.to(vectors))

    def write(self, folder: Path) -> None:
        """Write it as a module's folder."""
        storage.write_json(folder / "config.json", {"dimension": self.width})
        write_weights(folder, {"norm.weight": self.weight, "norm.bias": self.bias})


@dataclass(frozen=True, slots=True)
class UnitLength:
    """The normalisation of each vector to length 1."""

    kind: ClassVar[str] = "Normalize"
    width: ClassVar[None] = None

    def __call__(self, vectors: Tensor) -> Tensor:
        """[B, D] -> [B, D]."""
        return functional.normalize(vectors, dim=-1)

    def write(self, folder: Path) -> None:
        """Write it as a module's folder."""
        storage.write_json(folder / "config.json", {"module_input_name": _VECTOR, "module_output_name": _VECTOR})


Layer = Dense | LayerNorm | UnitLength


def _read_dense(folder: Path, width: int) -> Layer:
    config, where = read_json(folder / "config.json"), str(folder / "config.json")
    _check_names(config, where)
    activation = config.get("activation_function", _TANH)
    if activation not in _ACTIVATIONS:
        raise UnsupportedError(f"activation '{activation}' is not supported.", where=where)
    size_in, size_out = config.get("in_features"), config.get("out_features")
    shapes: dict[str, list[Any]] = {"linear.weight": [size_out, size_in]}
    if config.get("bias", True):
        shapes["linear.bias"] = [size_out]
    if config.get("use_residual") and size_in != size_out:
        shapes["residual.weight"] = [size_out, size_in]
    tensors = _read_tensors(folder, shapes)
    _check_width(size_in, width, where)
    weight, residual = tensors["linear.weight"], tensors.get("residual.weight")
    if config.get("use_residual") and residual is None:
        residual = torch.eye(len(weight))
    return Dense(weight, tensors.get("linear.bias"), activation, residual)


def _read_norm(folder: Path, width: int) -> Layer:
    size, where = read_json(folder / "config.json").get("dimension"), str(folder / "config.json")
    tensors = _read_tensors(folder, {"norm.weight": [size], "norm.bias": [size]})
    _check_width(size, width, where)
    return LayerNorm(tensors["norm.weight"], tensors["norm.bias"])


def _read_unit_length(folder: Path, width: int) -> Layer:
    path = folder / "config.json"
    if path.is_file():
        _check_names(read_json(path), str(path))
    return UnitLength()


READERS: Mapping[str, Callable[[Path, int], Layer]] = {
    Dense.kind: _read_dense,
    LayerNorm.kind: _read_norm,
    UnitLength.kind: _read_unit_length,
}
"""By the name of the module's class: its folder and the width of the vectors that enter it -> the layer.

They raise a CheckpointError if a file is missing or damaged, an UnsupportedError for what is not supported.
"""


def _check_names(config: Mapping[str, Any], where: str) -> None:
    """Refuse a module that reads or writes something other than the vector of a text."""
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, _VECTOR):
            raise UnsupportedError(f"{key} is '{config[key]}'; only {_VECTOR} is supported.", where=where)


def _read_tensors(folder: Path, shapes: Mapping[str, list[Any]]) -> dict[str, Tensor]:
    """The tensors of a module in float32, if they are those of these shapes."""
    stored = read_weights(folder)
    if stored.keys() != shapes.keys():
        raise CheckpointError(
            f"has the tensors {', '.join(sorted(stored))}, not {', '.join(sorted(shapes))}.", where=str(folder)
        )
    for name, shape in shapes.items():
        if list(stored[name].shape) != shape:
            raise CheckpointError(f"{name} {list(stored[name].shape)} where {shape} is expected.", where=str(folder))
    return {name: tensor.load(torch.float32) for name, tensor in stored.items()}


def _check_width(size: Any, width: int, where: str) -> None:
    if size != width:
        raise CheckpointError(f"takes vectors of {size} numbers, and gets vectors of {width}.", where=where)
