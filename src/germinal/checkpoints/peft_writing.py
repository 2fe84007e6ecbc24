"""From what an adapter does to a network to the files of a PEFT folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from germinal.checkpoints.lora_layers import published_layers
from germinal.checkpoints.peft_config import block_index
from germinal.checkpoints.peft_tensors import VIRTUAL_TOKENS, published_name
from germinal.errors import UnsupportedError
from germinal.layers.adapted import Adapter, Replaced
from germinal.layers.adapters import EMBEDDING, HEAD, base_state_dict
from germinal.layers.lora import LoRA
from germinal.models.config import TransformerConfig
from germinal.models.families import Family
from germinal.models.transformer import Transformer

_BIAS = "logit_bias"

Value = TypeVar("Value", int, float)

_TASKS = {
    "sequence-classification": "SEQ_CLS",
    "token-classification": "TOKEN_CLS",
    "question-answering": "QUESTION_ANS",
}


def published_adapter(
    network: Transformer, adapter: Adapter, family: Family
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The contents of adapter_config.json, but for the base's name, and the tensors.

    Raises:
        UnsupportedError: a layer or a parameter has no published name.
    """
    config, tensors = (
        _virtual_tokens(network, adapter.virtual_tokens)
        if adapter.virtual_tokens is not None
        else _Writer(network, adapter, family).written()
    )
    task = {"task_type": _task(network.config), "auto_mapping": _class(network.config, family), "inference_mode": True}
    return {**task, **config}, {published_name(name): each.cpu().contiguous() for name, each in tensors.items()}


def _task(config: TransformerConfig) -> str | None:
    if config.head == "lm":
        return "SEQ_2_SEQ_LM" if config.stacks == "encoder-decoder" else "CAUSAL_LM"
    return _TASKS.get(config.head or "")


def _class(config: TransformerConfig, family: Family) -> dict[str, str] | None:
    """The class of the base, for PEFT to find it where the task does not say it."""
    if _task(config) is not None:
        return None
    return {"base_model_class": family.config_to_hf(config)["architectures"][0], "parent_library": "transformers"}


def _virtual_tokens(network: Transformer, rows: Tensor) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config = network.config
    two = config.stacks == "encoder-decoder"
    rows = rows.float() * config.embedding_scale
    described = {
        "peft_type": "PROMPT_TUNING",
        "num_virtual_tokens": len(rows),
        "token_dim": config.hidden_size,
        "num_transformer_submodules": 2 if two else 1,
        "num_attention_heads": config.num_heads,
        "num_layers": config.num_layers,
        "prompt_tuning_init": "RANDOM",
    }
    # PEFT keeps rows for the decoder of an encoder-decoder too, which it does not read.
    return described, {VIRTUAL_TOKENS: torch.cat((rows, rows)) if two else rows}


class _Writer:
    """Writes one LoRA adapter: its config, and its tensors under their short names."""

    def __init__(self, network: Transformer, adapter: Adapter, family: Family) -> None:
        self.network = network
        self.adapter = adapter
        self.rules = family.hf_rules(network.config)
        self.layers = published_layers(network, family)
        self.fused = {
            layer.name: layer.fuse(adapter.updates)
            for layer in self.layers
            if not adapter.updates.keys().isdisjoint(layer.ours)
        }
        self.embeddings = {layer.name for layer in self.layers if layer.is_embedding}
        self.own = base_state_dict(network)
        self.tensors: dict[str, Tensor] = {}
        nameless = adapter.updates.keys() - {ours for layer in self.layers for ours in layer.ours}
        if nameless:
            raise UnsupportedError("has no published name to save an adapter under.", where=min(nameless))

    def written(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        for name, part in self.fused.items():
            self._write_part(name, part)
        ranks = {name: part.rank for name, part in self.fused.items()}
        alphas = {name: part.alpha for name, part in self.fused.items()}
        rank, alpha = _commonest(ranks, 8), _commonest(alphas, 8.0)
        parts = list(self.fused.values())
        described = {
            "peft_type": "LORA",
            "r": rank,
            "lora_alpha": _plain(alpha),
            "lora_dropout": max((part.dropout for part in parts), default=0.0),
            "use_rslora": any(part.use_rslora for part in parts),
            "use_dora": any(part.magnitude is not None for part in parts),
            "fan_in_fan_out": False,
            "init_lora_weights": True,
            "rank_pattern": self._deviating(ranks, rank),
            "alpha_pattern": {name: _plain(each) for name, each in self._deviating(alphas, alpha).items()},
            **self._targets(),
            **self._replaced(),
        }
        return described, self.tensors

    def _write_part(self, name: str, part: LoRA) -> None:
        embedded = name in self.embeddings
        self.tensors[f"{name}.lora_embedding_A" if embedded else f"{name}.lora_A.weight"] = part.A.detach()
        self.tensors[f"{name}.lora_embedding_B" if embedded else f"{name}.lora_B.weight"] = part.B.detach()
        if part.magnitude is not None:
            self.tensors[f"{name}.lora_magnitude_vector"] = part.magnitude

    def _targets(self) -> dict[str, Any]:
        """Short names if these select exactly the adapted layers, with the indices of the blocks if need be."""
        short = sorted({name.rpartition(".")[2] for name in self.fused})
        alike = [layer.name for layer in self.layers if any(_ends_with(layer.name, each) for each in short)]
        blocks = sorted({index for name in self.fused if (index := block_index(name)) is not None})
        if set(alike) == self.fused.keys():
            return {"target_modules": short, "layers_to_transform": None}
        if {name for name in alike if block_index(name) in blocks} == self.fused.keys():
            return {"target_modules": short, "layers_to_transform": blocks}
        return {"target_modules": sorted(self.fused), "layers_to_transform": None}

    def _deviating(self, values: Mapping[str, Value], default: Value) -> dict[str, Value]:
        """The values that are not the default one, by ends of names where all layers with this end have the same."""
        ends: dict[str, set[Value]] = {}
        for name, value in values.items():
            ends.setdefault(name.rpartition(".")[2], set()).add(value)
        return {
            end if len(ends[end]) == 1 else re.escape(name): value
            for name, value in values.items()
            if value != default
            for end in (name.rpartition(".")[2],)
        }

    # Parameters with other values

    def _replaced(self) -> dict[str, Any]:
        """The settings that say of parameters that they have other values; the values become tensors."""
        replaced, ties = self._untied()
        whole = {name: each.values for name, each in replaced.items() if each.values is not None and each.rows is None}
        biases = {name for name in whole if self._published(name).endswith(".bias")}
        # A module that is saved brings all its parameters. A bias alone is no module, nor is an adapted layer.
        saved = {self._module(name) for name in whole.keys() - biases} - self.fused.keys()
        alone = {self._module(name) for name in biases} - saved - self._head.keys()
        bias = "none" if not alone else "lora_only" if alone <= self.fused.keys() else "all"
        values = self.own | whole
        for name in values:
            module = self._module(name)
            biased = self._published(name).endswith(".bias") and (
                bias == "all" or (bias == "lora_only" and module in self.fused)
            )
            if name in whole or biased or module in saved or module in self._head:
                self._write_parameter(name, values)
        matrix = self._module(f"{HEAD}.weight") if self.rules.theirs(f"{HEAD}.weight") else ""
        if matrix in saved and self.rules.ours(f"{matrix}.bias") is not None and _BIAS in values:
            self.tensors[f"{matrix}.bias"] = values[_BIAS].clone()  # the layer has the bias a second time
        return {
            "bias": bias,
            "modules_to_save": sorted(saved.difference(self._head).union(self._head.values())) or None,
            "trainable_token_indices": self._tokens(replaced) or None,
            "ensure_weight_tying": ties,
        }

    def _tokens(self, replaced: Mapping[str, Replaced]) -> dict[str, list[int]]:
        tokens: dict[str, list[int]] = {}
        for name, each in replaced.items():
            if each.rows is not None and each.values is not None:
                tokens[self._module(name)] = each.rows.tolist()
                self.tensors[f"{self._module(name)}.token_adapter.trainable_tokens_delta"] = each.values.float()
        return tokens

    @cached_property
    def _head(self) -> dict[str, str]:
        """The modules of a classifier, each with the name of the one that PEFT saves unasked and that it is part of."""
        if self.network.config.head not in _TASKS:
            return {}
        modules = {self._module(name): self._module(name).split(".") for name in self.own}
        names = ("score", "classifier", "qa_outputs")
        return {module: name for module, parts in modules.items() for name in names if name in parts}

    def _untied(self) -> tuple[dict[str, Replaced], bool]:
        """What the adapter replaces, without what follows from tied embeddings, and whether it ties them itself."""
        replaced = dict(self.adapter.replaced)
        table, matrix = (replaced.get(f"{each}.weight") for each in (EMBEDDING, HEAD))
        if not self.network.config.tie_embeddings or table is None or matrix is None:
            return replaced, False
        ties = matrix.values is table.values
        if self._module(f"{EMBEDDING}.weight") in self.fused:
            ties = False  # the base's table was changed, which changes both
        if torch.equal(_values(matrix), self.own[f"{EMBEDDING}.weight"]):
            del replaced[f"{HEAD}.weight"]
        return replaced, ties

    def _write_parameter(self, name: str, values: Mapping[str, Tensor]) -> None:
        published, module = self._published(name), self._module(name)
        found, theirs = self.rules.ours(published), self.rules.theirs(name)
        assert theirs is not None, "the name was found before"
        ours = (name,) if found is None else found[0]
        inside = ".base_layer." if module in self.fused else "."
        tensor = theirs[1].to_theirs(*(values[each] for each in ours))
        self.tensors[f"{module}{inside}{published.rpartition('.')[2]}"] = tensor.detach().clone()

    def _published(self, name: str) -> str:
        found = self.rules.theirs(name)
        if found is None:
            raise UnsupportedError("has no published name to save an adapter under.", where=name)
        return found[0]

    def _module(self, name: str) -> str:
        return self._published(name).rpartition(".")[0]


def _values(replaced: Replaced) -> Tensor:
    assert replaced.values is not None, "a tied matrix is replaced as a whole"
    return replaced.values


def _ends_with(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _commonest(values: Mapping[str, Value], otherwise: Value) -> Value:
    return Counter(values.values()).most_common(1)[0][0] if values else otherwise


def _plain(number: float) -> float | int:
    return int(number) if number == int(number) else number
