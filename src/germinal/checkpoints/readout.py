"""What a checkpoint says of how its output is read: the names of its classes, and how sentence vectors are pooled.

The names stand in config.json. Pooling is sentence-transformers' (Reimers and Gurevych 2019, arXiv 1908.10084): a list
of modules in modules.json, of which those that leave the vectors' meaning to the network are known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from germinal import storage
from germinal.checkpoints.json_file import read_json, read_json_list
from germinal.errors import CheckpointError, UnsupportedError

_MODES = {
    "mean": "pooling_mode_mean_tokens",
    "first": "pooling_mode_cls_token",
    "last": "pooling_mode_lasttoken",
    "max": "pooling_mode_max_tokens",
}
_ALL_MODES = (*_MODES.values(), "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens")
_MODULES = "modules.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """How one vector is made of a text's hidden states.

    Attributes:
        mode: "mean" over the tokens, "first", "last", "max" over the tokens, or "pooler" (the head of that name).
        normalized: Whether vectors are divided by their length.
        max_tokens: Longest text that the model was trained to embed, special tokens included; None is the network's.
    """

    mode: str = "mean"
    normalized: bool = False
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Readout:
    """How the outputs of a network are read.

    Attributes:
        labels: Name of each class, in the order of the head's outputs.
        multi_label: Classes do not exclude each other.
        pooling: As published with the checkpoint, or None.
    """

    labels: tuple[str, ...] = ()
    multi_label: bool = False
    pooling: Pooling | None = None


def read_readout(folder: Path, published: Mapping[str, Any], num_labels: int) -> Readout:
    """The readout of a folder with this config.json.

    Raises:
        CheckpointError: the names are not as many as the head has outputs, or a file is malformed.
        UnsupportedError: sentence vectors go through a module that is not known.
    """
    return Readout(
        labels=_labels(published, num_labels),
        multi_label=published.get("problem_type") == "multi_label_classification",
        pooling=_read_pooling(folder),
    )


def labels_to_hf(readout: Readout, num_labels: int) -> dict[str, Any]:
    """The fields of config.json that hold the names of the classes."""
    if not num_labels or len(readout.labels) != num_labels:
        return {}
    fields: dict[str, Any] = {
        "id2label": {str(number): label for number, label in enumerate(readout.labels)},
        "label2id": {label: number for number, label in enumerate(readout.labels)},
    }
    if readout.multi_label:
        fields["problem_type"] = "multi_label_classification"
    return fields


def write_pooling(folder: Path, pooling: Pooling, hidden_size: int) -> None:
    """Write the files by which sentence-transformers knows how to pool.

    The "pooler" mode has no module there: nothing is written.
    """
    if pooling.mode not in _MODES:
        return
    kinds = ["Transformer", "Pooling", *(["Normalize"] if pooling.normalized else [])]
    paths = ["", *(f"{number}_{kind}" for number, kind in enumerate(kinds[1:], start=1))]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    storage.write_json(folder / _MODULES, modules)
    flags = {key: key == _MODES[pooling.mode] for key in _ALL_MODES}
    storage.write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": hidden_size, **flags})
    if pooling.max_tokens is not None:
        storage.write_json(
            folder / "sentence_bert_config.json", {"max_seq_length": pooling.max_tokens, "do_lower_case": False}
        )


def _labels(published: Mapping[str, Any], num_labels: int) -> tuple[str, ...]:
    names = published.get("id2label")
    if not num_labels or names is None:
        return tuple(f"LABEL_{number}" for number in range(num_labels))
    if not isinstance(names, Mapping):
        raise CheckpointError("is no object that gives each number a name.", where="config.json: id2label")
    try:
        return tuple(str(names[key]) for key in sorted(names, key=int)) if _counts(names, num_labels) else ()
    except ValueError as error:
        raise CheckpointError("numbers its labels with words.", where="config.json: id2label") from error


def _counts(names: Mapping[str, Any], num_labels: int) -> bool:
    numbers = sorted(int(key) for key in names)
    if numbers != list(range(num_labels)):
        raise CheckpointError(
            f"names {len(numbers)} labels, and the head has {num_labels} outputs, counted from 0.",
            where="config.json: id2label",
        )
    return True


def _read_pooling(folder: Path) -> Pooling | None:
    path = folder / _MODULES
    if not path.is_file():
        return None
    kinds = [(str(module.get("type", "")).rpartition(".")[2], module) for module in read_json_list(path)]
    known = {"Transformer", "Pooling", "Normalize"}
    if strange := [kind for kind, _ in kinds if kind not in known]:
        raise UnsupportedError(
            f"sentence vectors go through a module of the kind '{strange[0]}'.",
            where=str(path),
            hint=f"Known: {', '.join(sorted(known))}.",
        )
    named = dict(kinds)
    if "Pooling" not in named:
        return None
    return Pooling(
        mode=_mode(folder / _inside(str(named["Pooling"].get("path", "")), path) / "config.json"),
        normalized="Normalize" in named,
        max_tokens=_max_tokens(folder),
    )


def _inside(name: str, where: Path) -> str:
    from germinal.checkpoints.references import refuse_escape

    refuse_escape(name, str(where))
    return name


def _mode(path: Path) -> str:
    config = read_json(path)
    named = config.get("pooling_mode")
    asked = [key for key in _ALL_MODES if config.get(key)] if named is None else [f"pooling_mode_{named}"]
    short = {"pooling_mode_mean": "mean", "pooling_mode_cls": "first", "pooling_mode_max": "max"}
    modes = [mode for mode, key in _MODES.items() if key in asked] + [short[key] for key in asked if key in short]
    if len(modes) != 1 or len(asked) != 1:
        raise UnsupportedError(
            f"pools by {', '.join(asked) or 'nothing'}.",
            where=str(path),
            hint=f"Known, one at a time: {', '.join(_MODES)}.",
        )
    return modes[0]


def _max_tokens(folder: Path) -> int | None:
    path = folder / "sentence_bert_config.json"
    if not path.is_file():
        return None
    config = read_json(path)
    if config.get("do_lower_case"):
        raise UnsupportedError("lower-cases texts before the tokenizer does.", where=str(path))
    length = config.get("max_seq_length")
    if length is not None and not (isinstance(length, int) and length > 0):
        raise CheckpointError(f"max_seq_length is {length!r}.", where=str(path))
    return length
