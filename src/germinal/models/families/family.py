"""What a family's module provides: how its published configs and weights map to ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from torch import Tensor

from germinal.errors import SettingError, UnsupportedError, nearest
from germinal.models.config import TransformerConfig
from germinal.models.families.gguf_format import GgufFormat
from germinal.models.families.published_keys import PublishedKeys
from germinal.models.weight_rules import WeightRules
from germinal.text.tokenizer_layout import TokenizerLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One family as data.

    Attributes:
        name: As papers call it, in lower case.
        paper: Where it was published.
        defaults: The config values that all models of the family share, so no sizes. A function computes a value from
            the others, which it is given as a mapping.
        model_types: Hugging Face `model_type`s.
        architecture: The Hugging Face class of its models, as in config.json.
        keys: The keys of its config.json; None if the family was published without one.
        config_from_hf, config_to_hf: config.json <-> config.
        hf_rules: Weight names of the Hugging Face layout.
        tokenizer: The layout of its tokenizer files from before tokenizer.json; None if it has none.
        ties_by_weights: Whether the weights, rather than config.json, determine that the output matrix is tied.
        gguf: Its form in GGUF files; None if it has none. Files of a GGUF architecture that several families have are
            read by the first of them.
    """

    name: str
    paper: str
    defaults: Mapping[str, Any]
    model_types: tuple[str, ...]
    architecture: str
    config_from_hf: Callable[[Mapping[str, Any]], TransformerConfig]
    config_to_hf: Callable[[TransformerConfig], dict[str, Any]]
    hf_rules: Callable[[TransformerConfig], WeightRules]
    keys: PublishedKeys | None = None
    tokenizer: TokenizerLayout | None = None
    ties_by_weights: bool = False
    gguf: GgufFormat | None = None

    def config(self, **values: Any) -> TransformerConfig:
        """A config of this family: `values` over its defaults. By default there are as many key-value heads as query
        heads, and head_dim is D / H.

        Raises:
            SettingError: a size is missing or impossible, or a value has no such name.
        """
        values = {**self.defaults, **values}
        required = {field.name: field.default is MISSING for field in fields(TransformerConfig)}
        for name in values:
            if name not in required:
                hint = nearest(name, list(required))
                raise SettingError("is not a field of TransformerConfig.", where=name, hint=hint)
        missing = [name for name in required if required[name] and name not in (*values, *_FOLLOWING)]
        if missing:
            raise SettingError(f"a {self.name} needs {', '.join(missing)}.", where="config")
        filled = follow(values)
        if "head_dim" not in filled:
            what = f"{filled['num_heads']} heads do not divide a width of {filled['hidden_size']}."
            raise SettingError(what, where="config.num_heads", hint="Give head_dim as well.")
        return TransformerConfig(**filled)

    def config_from_gguf(self, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> TransformerConfig:
        """The config of a GGUF file, from its metadata and tensors (some families store a part of it as a tensor).

        Raises:
            CheckpointError: a key is missing.
            UnsupportedError: the model has a feature that is not supported, a key is unknown, or the family has no GGUF
                form.
        """
        if self.gguf is None:
            raise UnsupportedError(f"family '{self.name}' is not read from GGUF.")
        config = self.config(**self.gguf.values(metadata, tensors))
        self.gguf.refuse_unread(metadata, config)
        return config


_FOLLOWING = ("num_kv_heads", "head_dim")


def follow(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with functions replaced by what they compute, and defaults of num_kv_heads and head_dim."""
    filled = {name: value(values) if callable(value) else value for name, value in values.items()}
    width, heads = filled.get("hidden_size"), filled.get("num_heads")
    filled.setdefault("num_kv_heads", heads)
    if isinstance(width, int) and isinstance(heads, int) and heads > 0 and width % heads == 0:
        filled.setdefault("head_dim", width // heads)
    return filled


def root_of_width(values: Mapping[str, Any]) -> float:
    """sqrt(D), by which some families multiply their embeddings."""
    return float(_width(values) ** 0.5)


def inverse_root_of_width(values: Mapping[str, Any]) -> float:
    """1 / sqrt(D), by which some families multiply their logits."""
    return float(_width(values) ** -0.5)


def _width(values: Mapping[str, Any]) -> int:
    width = values.get("hidden_size")
    if not isinstance(width, int) or width < 1:
        raise SettingError(f"must be a positive whole number, not {width!r}.", where="config.hidden_size")
    return width
