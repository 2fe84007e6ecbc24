"""From the files of a PEFT folder to what the adapter does to a network.

What PEFT would load is what counts: the layers that the config selects, each with its size, and the parameters of the
base that have other values. Config and tensors must agree; a tensor that nothing asks for is refused.

Names are those of the class that the adapter was trained on. A class without a head has shorter ones than the family's
table ("layers.0" for "model.layers.0"): see `_Spelling`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from germinal.checkpoints.assembly import shapes_after
from germinal.checkpoints.lora_layers import PublishedLayer, published_layers
from germinal.checkpoints.peft_config import CONFIG, LoRASettings, read_prompt_length, read_settings
from germinal.checkpoints.peft_tensors import ANOTHER_BASE, VIRTUAL_TOKENS, AdapterTensors, published_name
from germinal.errors import CheckpointError, UnsupportedError
from germinal.layers.adapted import Adapter, Replaced
from germinal.layers.adapters import EMBEDDING, HEAD, base_state_dict
from germinal.layers.lora import LoRA
from germinal.models.families import Family
from germinal.models.transformer import Transformer
from germinal.models.weight_rules import Transform, WeightRules

_TABLE, _MATRIX, _BIAS = f"{EMBEDDING}.weight", f"{HEAD}.weight", "logit_bias"


def read_virtual_tokens(network: Transformer, raw: Mapping[str, Any], folder: Path, tensors: AdapterTensors) -> Adapter:
    """An adapter of virtual tokens, from its file.

    The file has them as the network's first layer reads them. Ours are scaled as all embeddings are, so they are kept
    unscaled.

    Raises:
        UnsupportedError: the network does not write.
        CheckpointError: the file does not have the rows that the config and the network require.
    """
    config = network.config
    if config.head != "lm":
        raise UnsupportedError(
            "holds virtual tokens, which only models that write can read.", where=str(folder / CONFIG)
        )
    count, stored = read_prompt_length(raw, folder)
    if count >= config.max_position_embeddings:
        window = config.max_position_embeddings
        raise CheckpointError(
            f"is {count:,}, and the context window holds {window:,} tokens.",
            where=f"{folder / CONFIG}: num_virtual_tokens",
        )
    tensors.require({VIRTUAL_TOKENS: (stored, config.hidden_size)})
    rows = tensors.take(VIRTUAL_TOKENS)[:count] / config.embedding_scale
    tensors.refuse_others()
    return Adapter(virtual_tokens=rows.to(network.device, network.dtype))


def read_lora(
    network: Transformer, family: Family, raw: Mapping[str, Any], folder: Path, tensors: AdapterTensors
) -> Adapter:
    """A LoRA adapter, from its files; nothing is put on the network yet.

    Raises:
        CheckpointError: the tensors are not those that the config and the network require.
        UnsupportedError: it replaces what cannot be replaced.
    """
    return _LoRAReader(network, family, read_settings(raw, folder), folder, tensors).adapter()


class _LoRAReader:
    """Reads one LoRA adapter."""

    def __init__(
        self, network: Transformer, family: Family, settings: LoRASettings, folder: Path, tensors: AdapterTensors
    ) -> None:
        self.network = network
        self.settings = settings
        self.config_file = str(folder / CONFIG)
        self.tensors = tensors
        self.rules = family.hf_rules(network.config)
        self.spelling = _Spelling(self.rules, tensors.names)
        self.layers = {self.spelling.of(layer.name): layer for layer in published_layers(network, family)}

    @cached_property
    def tied(self) -> bool:
        return self.network.lm_head is not None and self.network.config.tie_embeddings

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        """The network's parameters by our names; a tied output matrix is one too."""
        return base_state_dict(self.network) | ({_MATRIX: self.network.embed_tokens.weight} if self.tied else {})

    def adapter(self) -> Adapter:
        updates = self._updates()
        tokens, replaced = self._tokens(), self._replaced(updates)
        if self.network.config.stacks == "encoder-decoder" and (EMBEDDING in updates or _TABLE in replaced):
            raise UnsupportedError(
                "adapts the embedding of an encoder-decoder, which PEFT does for neither or one of its stacks.",
                where=self.config_file,
                hint="Merge it into its base with PEFT's merge_and_unload, and load the merged model.",
            )
        replaced |= tokens | self._left_out(tokens)
        self.tensors.refuse_others()
        if not updates and not replaced:
            raise CheckpointError("adapts nothing that the model has.", where=self.config_file, hint=ANOTHER_BASE)
        return Adapter(updates, replaced)

    # Low-rank updates

    def _updates(self) -> dict[str, LoRA]:
        chosen = {name: layer for name, layer in self.layers.items() if self._selects(name, layer)}
        if not chosen and self.settings.targets.names != ():
            raise CheckpointError(
                f"adapts {self.settings.targets}, which the model does not have.",
                where=f"{self.config_file}: target_modules",
                hint=ANOTHER_BASE,
            )
        self.tensors.require({key: shape for name in chosen for key, shape in self._shapes(name).items()})
        parts: dict[str, LoRA] = {}
        for name, layer in chosen.items():
            parts |= layer.split(self._fused(name, layer))
        for part in parts.values():
            part.to(self.network.device).requires_grad_(False)
        return parts

    def _selects(self, name: str, layer: PublishedLayer) -> bool:
        if HEAD in layer.ours and self.tied and self.settings.ties:
            (layer,) = (each for each in self.layers.values() if EMBEDDING in each.ours)
            name = self._module(_TABLE)
        return self.settings.selects(name, by_default=layer.by_default)

    def _shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        layer, (rank, _) = self.layers[name], self.settings.size(name)
        down, up = _lora_names(name, layer)
        shapes: dict[str, tuple[int, ...]] = {down: (rank, layer.in_features), up: (layer.out_features, rank)}
        if self.settings.use_dora:
            shapes[f"{name}.lora_magnitude_vector"] = (layer.out_features,)
        return shapes

    def _fused(self, name: str, layer: PublishedLayer) -> LoRA:
        rank, alpha = self.settings.size(name)
        fused = LoRA(layer.in_features, layer.out_features, rank=rank, alpha=alpha, use_rslora=self.settings.use_rslora)
        fused.A.data, fused.B.data = (self.tensors.take(each) for each in _lora_names(name, layer))
        if self.settings.use_dora:
            fused.magnitude = self.tensors.take(f"{name}.lora_magnitude_vector")
        return fused

    # Rows of tokens

    def _tokens(self) -> dict[str, Replaced]:
        """Rows of single tokens. What ties the output matrix to the embedding ties their rows, unless other tokens are
        chosen for each.
        """
        chosen = {name: rows for name in self.layers if (rows := self._rows(name))}
        table, matrix = self._module(_TABLE), self._module(_MATRIX)
        if self.tied and table in chosen and chosen.get(matrix, chosen[table]) == chosen[table]:
            chosen.pop(matrix, None)
        found: dict[str, Replaced] = {}
        for name, rows in chosen.items():
            (ours,) = self.layers[name].ours
            weight = self.parameters[f"{ours}.weight"]
            key = f"{name}.token_adapter.trainable_tokens_delta"
            self.tensors.require({key: (len(rows), weight.shape[1])})
            values = self.tensors.take(key).to(weight)
            indices = torch.tensor(rows, device=weight.device)
            apart = self.tied and matrix in chosen
            found[f"{ours}.weight"] = (
                Replaced(weight.index_copy(0, indices, values)) if apart else Replaced(values, indices)
            )
        return found

    def _left_out(self, tokens: Mapping[str, Replaced]) -> dict[str, Replaced]:
        """The bias of an output matrix with rows of single tokens, if it is the layer's own: PEFT leaves it out."""
        matrix = _MATRIX in tokens or (self.tied and _TABLE in tokens)
        name = f"{self._module(_MATRIX)}.bias"
        if not matrix or _BIAS not in self.parameters or self.rules.ours(name) is None:
            return {}
        return {_BIAS: Replaced(torch.zeros_like(self.parameters[_BIAS]))}

    def _rows(self, name: str) -> tuple[int, ...]:
        layer = self.layers[name]
        for ending, rows in self.settings.tokens.items():
            if EMBEDDING in layer.ours if ending is None else name.endswith(ending):
                size = layer.in_features if layer.is_embedding else layer.out_features
                if len(set(rows)) < len(rows) or max(rows, default=0) >= size:
                    raise CheckpointError(
                        f"must be different indices below {size:,}.",
                        where=f"{self.config_file}: trainable_token_indices",
                    )
                return rows
        return ()

    # Parameters with other values

    def _replaced(self, updates: Mapping[str, LoRA]) -> dict[str, Replaced]:
        wanted = self._wanted_parameters(updates)
        by_name = {_without_base_layer(key): key for key in self.tensors.names}
        self.tensors.require_names(name for name in wanted if name not in by_name)
        found: dict[str, Replaced] = {}
        for name, key in by_name.items():
            if name in wanted:
                found |= {ours: Replaced(value) for ours, value in self._parameter(name, key).items()}
        found |= self._head_bias(by_name, found) | self._base_embeddings(found)
        if self.tied and _TABLE in found and _MATRIX not in found:
            # The output matrix stays the base's, unless the adapter ties it to its embedding.
            found[_MATRIX] = found[_TABLE] if self.settings.ties else Replaced(self.parameters[_TABLE])
        return found

    def _parameter(self, name: str, key: str) -> dict[str, Tensor]:
        """Our parameters, from the tensor `key` of the published parameter `name`."""
        (ours, transform), shape = self._rule(name), self.tensors.shape(key)
        assert shape is not None, "the key is that of a tensor"
        if shapes_after(transform, shape) != [tuple(self.parameters[each].shape) for each in ours]:
            raise CheckpointError(
                f"{published_name(key)} has the shape {list(shape)}, which is not that of the model.",
                where=str(self.tensors.file),
                hint="Was the adapter trained on another base model, or with a larger vocabulary?",
            )
        values = transform.to_ours(self.tensors.take(key))
        return {each: value.to(self.parameters[each]) for each, value in zip(ours, values, strict=True)}

    def _head_bias(self, by_name: Mapping[str, str], found: Mapping[str, Replaced]) -> dict[str, Replaced]:
        """The bias of the output matrix, which some files have a second time under the name of the layer."""
        name = f"{self._module(_MATRIX)}.bias"
        if name not in by_name or name == self._named(_BIAS) or self.rules.ours(name) is None:
            return {}
        self.tensors.require({by_name[name]: tuple(self.parameters[_BIAS].shape)})
        value = self.tensors.take(by_name[name]).to(self.parameters[_BIAS])
        other = found[_BIAS].values if _BIAS in found else None
        if other is not None and not torch.equal(other, value):
            raise CheckpointError(f"has two different biases of {name}.", where=str(self.tensors.file))
        return {_BIAS: Replaced(value)}

    def _base_embeddings(self, found: Mapping[str, Replaced]) -> dict[str, Replaced]:
        """The embeddings that PEFT writes beside adapters of them: the base's own, or those of a base that was changed
        before it was adapted.
        """
        others: dict[str, Tensor] = {}
        for ours in (_TABLE, _MATRIX):
            name = self._named(ours)
            key = next((each for each in self.tensors.names if _without_base_layer(each) == name), None)
            if name is None or key is None or ours in found:
                continue
            value = self._parameter(name, key)[ours]
            if not torch.equal(value, self.parameters[ours]):
                others[ours] = value
        if self.tied and others:
            if len(others) == 2 and not torch.equal(*others.values()):
                raise CheckpointError("has two different tables for tied embeddings.", where=str(self.tensors.file))
            others = dict.fromkeys((_TABLE, _MATRIX), next(iter(others.values())))
        return {name: Replaced(value) for name, value in others.items()}

    def _wanted_parameters(self, updates: Mapping[str, LoRA]) -> set[str]:
        """The published names of the parameters whose values the file must have."""
        wanted = set()
        for name in self.parameters:
            published = self._named(name)
            if published is None:
                continue
            biased = self.settings.bias == "all" or (
                self.settings.bias == "lora_only" and name.removesuffix(".bias") in updates
            )
            if self.settings.saves(published) or (biased and published.endswith(".bias")):
                wanted.add(published)
        return wanted

    def _named(self, ours: str) -> str | None:
        """The published name of a parameter of ours."""
        found = self.rules.theirs(ours)
        return None if found is None else self.spelling.of(found[0])

    def _module(self, ours: str) -> str:
        """The published name of the layer that a parameter belongs to."""
        return (self._named(ours) or "").rpartition(".")[0]

    def _rule(self, published: str) -> tuple[tuple[str, ...], Transform]:
        found = self.rules.ours(published)
        assert found is not None, "the name is one of the table's"
        return found


class _Spelling:
    """How an adapter's file spells the published names: with the prefixes of the class that it was trained on."""

    def __init__(self, rules: WeightRules, keys: Iterable[str]) -> None:
        self._prefixes: dict[str, str] = {}
        for key in keys:
            parameter = _PART.sub(".weight", _without_base_layer(key))
            found = rules.ours(parameter)
            named = None if found is None else rules.theirs(found[0][0])
            if named is not None and named[0].endswith(f".{parameter}"):
                self._prefixes[named[0].removesuffix(parameter)] = ""
            elif named is not None and parameter.endswith(f".{named[0]}"):
                first = named[0].partition(".")[0]
                self._prefixes[first] = parameter.removesuffix(named[0]) + first

    def of(self, name: str) -> str:
        for prefix, own in self._prefixes.items():
            if name.startswith(prefix):
                return own + name.removeprefix(prefix)
        return name


_PART = re.compile(
    r"\.(lora_A\.weight|lora_B\.weight|lora_embedding_A|lora_embedding_B|lora_magnitude_vector|token_adapter\..*)$"
)


def _without_base_layer(key: str) -> str:
    return re.sub(r"\.base_layer(?=\.(weight|bias)$)", "", key)


def _lora_names(name: str, layer: PublishedLayer) -> tuple[str, str]:
    """The names of A and B."""
    if layer.is_embedding:
        return f"{name}.lora_embedding_A", f"{name}.lora_embedding_B"
    return f"{name}.lora_A.weight", f"{name}.lora_B.weight"
