"""adapter_config.json of the PEFT library, read as PEFT reads it.

Every setting is on one of two lists, or must be empty: those that are read, and those that have no effect on a finished
adapter. A setting that is not known here is refused by its name, never ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from germinal.checkpoints.json_file import read_json
from germinal.checkpoints.name_patterns import NamePattern
from germinal.errors import CheckpointError, ModelNotFoundError, UnsupportedError

CONFIG = "adapter_config.json"
PROMPTS = ("PROMPT_TUNING", "P_TUNING")
"""Methods whose file holds virtual tokens. (P-tuning's network that makes them is not in the file.)"""

_UNMERGEABLE = ("PREFIX_TUNING", "MULTITASK_PROMPT_TUNING", "ADAPTION_PROMPT", "CPT", "CARTRIDGE", "XLORA")
_LARGEST = 1e30  # what fits float32 by far; NaN is not less either
_MERGE = "Merge it into its base with PEFT's merge_and_unload, and load the merged model."
_WITHOUT_EFFECT = {
    *("peft_version", "auto_mapping", "inference_mode", "base_model_name_or_path", "revision", "megatron_core"),
    *("qalora_group_size", "runtime_config", "lora_dropout", "eva_config", "corda_config", "lora_ga_config"),
    *("loftq_config", "velora_config"),
    # Bases whose weights are transposed are known from their family.
    "fan_in_fan_out",
}
"""Settings of how an adapter was made or is trained further, and names of its base."""

_LORA = {
    *("peft_type", "task_type", "r", "lora_alpha", "use_rslora", "use_dora", "bias", "init_lora_weights"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern"),
    *("modules_to_save", "trainable_token_indices", "ensure_weight_tying"),
}
_PROMPT = {
    *("peft_type", "task_type", "num_virtual_tokens", "token_dim", "num_transformer_submodules"),
    *("num_attention_heads", "num_layers", "prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path"),
    *("tokenizer_kwargs", "encoder_reparameterization_type", "encoder_hidden_size", "encoder_num_layers"),
    "encoder_dropout",
}

_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva", "mica")
"""Initialisations that do not change the base's weights, as pissa, olora and others do."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Names of layers, by PEFT's rules.

    Attributes:
        names: Ends of names, or one pattern for whole names; None selects every linear layer but the output matrix.
    """

    names: tuple[str, ...] | NamePattern | None

    def __str__(self) -> str:
        if isinstance(self.names, NamePattern):
            return f"'{self.names.pattern}'"
        return "all linear layers" if self.names is None else ", ".join(self.names)

    def __contains__(self, name: str) -> bool:
        if isinstance(self.names, NamePattern):
            return self.names.matches(name)
        assert self.names is not None, "'all-linear' is a question of kinds of layers, not of names"
        return any(name == each or name.endswith(f".{each}") for each in self.names)


@dataclass(frozen=True, slots=True)
class LoRASettings:
    """What the config of a LoRA adapter says of its effect.

    Attributes:
        targets, excluded: The layers that are adapted.
        layers: Indices of the adapted blocks, None for all. The index is the first number behind what one of
            `containers` matches; without these, the first number from a name's third component on.
        rank, ranks, alpha, alphas: R and alpha, and those of the layers that a pattern matches, of which the first
            counts.
        bias: "none", "all" or "lora_only": which biases have other values.
        saved_modules: Ends of the names of modules that have other values.
        tokens: Indices of the tokens that have other rows, by the end of their embedding's name; the input embedding's
            is None.
        ties: Whether what holds for the embedding holds for a tied output matrix.
    """

    targets: Selection
    excluded: Selection
    layers: frozenset[int] | None
    containers: tuple[NamePattern, ...]
    rank: int
    ranks: tuple[tuple[NamePattern, int], ...]
    alpha: float
    alphas: tuple[tuple[NamePattern, float], ...]
    use_rslora: bool
    use_dora: bool
    bias: str
    saved_modules: tuple[str, ...]
    tokens: Mapping[str | None, tuple[int, ...]]
    ties: bool
    task_type: str | None

    def selects(self, name: str, *, by_default: bool) -> bool:
        """Whether the layer is adapted; `by_default` says whether "all-linear" means it.

        A layer that is part of a saved module is not.
        """
        parts = name.split(".")
        if name in self.excluded or any(_holds(parts, module.split(".")) for module in self.saved_modules):
            return False
        if not (by_default if self.targets.names is None else name in self.targets):
            return False
        return self.layers is None or self._block(name) in self.layers

    def saves(self, parameter: str) -> bool:
        """Whether a parameter belongs to a saved module. Here ends of names count, even within a word, as in PEFT."""
        parts = parameter.split(".")[:-1]
        modules = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
        return any(module.endswith(self.saved_modules) for module in modules)

    def size(self, name: str) -> tuple[int, float]:
        """R and alpha of a layer."""
        rank = next((rank for pattern, rank in self.ranks if pattern.matches_end(name)), self.rank)
        return rank, next((alpha for pattern, alpha in self.alphas if pattern.matches_end(name)), self.alpha)

    def _block(self, name: str) -> int | None:
        if self.containers:
            found = (container.block_index(name) for container in self.containers)
            return next((index for index in found if index is not None), None)
        return block_index(name)


def block_index(name: str) -> int | None:
    """The index of a layer's block: the first number from the name's third component on, if more follows it."""
    return next((int(part) for part in name.split(".")[2:-1] if part.isdecimal()), None)


def _holds(parts: list[str], run: list[str]) -> bool:
    return any(parts[start : start + len(run)] == run for start in range(len(parts) - len(run) + 1))


def read_raw(folder: Path) -> Mapping[str, Any]:
    """The contents of adapter_config.json.

    Raises:
        ModelNotFoundError: there is none.
        CheckpointError: it is not a JSON object.
    """
    file = folder / CONFIG
    if not file.exists():
        raise ModelNotFoundError(f"has no {CONFIG}.", where=str(folder), hint="An adapter is a folder of PEFT.")
    return read_json(file)


def require_kind(raw: Mapping[str, Any], folder: Path) -> bool:
    """Whether the adapter is of virtual tokens, not of LoRA.

    Raises:
        UnsupportedError: it is of another method, or a setting is not supported.
    """
    where, kind = str(folder / CONFIG), raw.get("peft_type")
    if kind != "LORA" and kind not in PROMPTS:
        known = ", ".join(("LORA", *PROMPTS))
        hint = _MERGE if kind not in _UNMERGEABLE else "It cannot be merged either: tune an adapter of another kind."
        raise UnsupportedError(f"is a {str(kind)[:40]} adapter; germinal knows {known}.", where=where, hint=hint)
    read = _PROMPT if kind in PROMPTS else _LORA
    for key, value in raw.items():
        empty = value in (None, False, "none", "") or value in ({}, [])
        if key not in read and key not in _WITHOUT_EFFECT and not empty:
            shown = json.dumps(value)[:80]
            raise UnsupportedError(f"'{key}' is {shown}, which is not supported.", where=where, hint=_MERGE)
    start = raw.get("init_lora_weights", True)
    if isinstance(start, (list, dict)) or start not in _PLAIN_STARTS:
        raise UnsupportedError(
            f"'init_lora_weights' is '{start}', which changes the base's weights.",
            where=where,
            hint="Save it again with PEFT's path_initial_model_for_weight_conversion.",
        )
    return kind in PROMPTS


def read_prompt_length(raw: Mapping[str, Any], folder: Path) -> tuple[int, int]:
    """Virtual tokens of a prompt-tuning adapter, and rows in its file, which may have some for the decoder too."""
    read = _Reader(raw, str(folder / CONFIG))
    count = read.whole("num_virtual_tokens")
    return count, count * read.whole("num_transformer_submodules", 1)


def read_settings(raw: Mapping[str, Any], folder: Path) -> LoRASettings:
    """What the config of a LoRA adapter says of its effect.

    Raises:
        CheckpointError: a value is of the wrong type or out of range.
    """
    read = _Reader(raw, str(folder / CONFIG))
    layers = raw.get("layers_to_transform")
    targets = read.selection("target_modules", all_linear=True)
    if raw.get("target_modules") is None:
        raise CheckpointError("is missing.", where=f"{folder / CONFIG}: target_modules")
    if isinstance(targets.names, NamePattern) and layers not in (None, []):
        raise CheckpointError(
            "cannot stand beside a pattern for names.", where=f"{folder / CONFIG}: layers_to_transform"
        )
    bias = raw.get("bias", "none")
    if bias not in ("none", "all", "lora_only"):
        raise CheckpointError(f"must be none, all or lora_only, not {bias!r}.", where=f"{folder / CONFIG}: bias")
    return LoRASettings(
        targets=targets,
        excluded=read.selection("exclude_modules"),
        layers=frozenset(read.indices("layers_to_transform", [layers] if isinstance(layers, int) else layers)) or None,
        containers=read.containers(),
        rank=read.whole("r"),
        ranks=tuple(
            (pattern, read.whole_value("rank_pattern", value)) for pattern, value in read.patterns("rank_pattern")
        ),
        alpha=read.number("lora_alpha", raw.get("lora_alpha")),
        alphas=tuple(
            (pattern, read.number("alpha_pattern", value)) for pattern, value in read.patterns("alpha_pattern")
        ),
        use_rslora=read.flag("use_rslora"),
        use_dora=read.flag("use_dora"),
        bias=bias,
        saved_modules=read.names("modules_to_save"),
        tokens=read.tokens(),
        ties=read.flag("ensure_weight_tying"),
        task_type=raw.get("task_type") if isinstance(raw.get("task_type"), str) else None,
    )


class _Reader:
    """Reads values of known types from a config; each error names the key."""

    def __init__(self, raw: Mapping[str, Any], where: str) -> None:
        self.raw = raw
        self.where = where

    def refused(self, key: str, needed: str, value: object) -> CheckpointError:
        return CheckpointError(f"must be {needed}, not {str(value)[:80]}.", where=f"{self.where}: {key}")

    def flag(self, key: str) -> bool:
        value = self.raw.get(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self.refused(key, "true or false", value)

    def whole(self, key: str, default: int | None = None) -> int:
        value = self.raw.get(key)
        return default if value is None and default is not None else self.whole_value(key, value)

    def whole_value(self, key: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
            raise self.refused(key, "a whole number from 1", value)
        return value

    def number(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
            raise self.refused(key, "a number", value)
        return float(value)

    def names(self, key: str) -> tuple[str, ...]:
        value = self.raw.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
            raise self.refused(key, "a list of names", value)
        return tuple(value)

    def indices(self, key: str, value: object) -> tuple[int, ...]:
        if value is None:
            return ()
        whole = isinstance(value, list) and all(isinstance(each, int) and not isinstance(each, bool) for each in value)
        if not whole or not all(0 <= each < 2**31 for each in value):  # type: ignore[attr-defined]
            raise self.refused(key, "a list of indices from 0", value)
        return tuple(value)  # type: ignore[arg-type]

    def selection(self, key: str, *, all_linear: bool = False) -> Selection:
        value = self.raw.get(key)
        if isinstance(value, str) and value:
            whole = all_linear and value.lower() == "all-linear"
            return Selection(None if whole else NamePattern(value, f"{self.where}: {key}"))
        return Selection(self.names(key))

    def patterns(self, key: str) -> Iterable[tuple[NamePattern, object]]:
        value = self.raw.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.refused(key, "a mapping of patterns", value)
        return [(NamePattern(each, f"{self.where}: {key}"), found) for each, found in (value or {}).items()]

    def containers(self) -> tuple[NamePattern, ...]:
        value = self.raw.get("layers_pattern")
        names = (value,) if isinstance(value, str) and value else self.names("layers_pattern") if value else ()
        return tuple(NamePattern(each, f"{self.where}: layers_pattern") for each in names)

    def tokens(self) -> dict[str | None, tuple[int, ...]]:
        key = "trainable_token_indices"
        value = self.raw.get(key)
        by_name = value if isinstance(value, dict) else {None: value} if value is not None else {}
        return {name: self.indices(key, each) for name, each in by_name.items()}


def effect(raw: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What a config says of the use of an adapter's tensors, for a digest: the scale, and all else that is not as in
    plain LoRA. Which layers are adapted is known from the tensors.
    """
    if require_kind(raw, folder):
        return {"virtual_tokens": read_prompt_length(raw, folder)[0]}
    settings = read_settings(raw, folder)
    scaling = settings.alpha / (math.sqrt(settings.rank) if settings.use_rslora else settings.rank)
    special = {
        "rank_pattern": [[pattern.pattern, rank] for pattern, rank in settings.ranks],
        "alpha_pattern": [[pattern.pattern, alpha] for pattern, alpha in settings.alphas],
        "bias": "" if settings.bias == "none" else settings.bias,
        "use_dora": settings.use_dora,
        "modules_to_save": sorted(settings.saved_modules),
        "tokens": [[name, list(rows)] for name, rows in settings.tokens.items() if rows],
        "ties": settings.ties,
    }
    if special["rank_pattern"] or special["alpha_pattern"]:
        special["use_rslora"] = settings.use_rslora
    return {"scaling": scaling, **{key: value for key, value in special.items() if value}}
