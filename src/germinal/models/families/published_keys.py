"""The keys of a published config.json as data: each is read, or must not differ from one value, or has no effect.

A family declares a `PublishedKeys`, and reads its config.json through it: what is read has the type and, where the key
is absent, the default of the family's published config class; what would change the network and is not supported is
refused by name. A test compares the declaration with the class, so that no key of it is passed over.
Keys that the class does not have are ignored, as in the published code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from germinal.errors import CheckpointError, UnsupportedError

WHERE = "config.json"
REQUIRED: Final = object()
"""The default of a key that must be given."""

_LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is read.

    Attributes:
        kind: The type of its values; float takes whole numbers too.
        default: Its value where it is absent; `REQUIRED` if it may not be.
        null: Whether null is one of its values.
        least: The least whole number.
    """

    kind: type
    default: Any = REQUIRED
    null: bool = False
    least: int = 1

    def value(self, name: str, values: Mapping[str, Any], where: str = WHERE) -> Any:
        """The value in a config.json, or in an object inside of it.

        Raises:
            CheckpointError: it is missing, of another type, not finite or too small.
        """
        value = values.get(name)
        if value is None and self.default is REQUIRED:
            raise CheckpointError(f"has no '{name}'.", where=where, hint="The config is not complete.")
        if name not in values:
            return self.default
        if (value is None and self.null) or self._is_right(value):
            return value
        wanted = {
            int: "a positive whole number" if self.least == 1 else f"a whole number from {self.least}",
            float: "a finite number",
            bool: "true or false",
            str: "a name",
            list: "a list",
            dict: "an object",
        }[self.kind]
        if type(value) is int and value > _LARGEST:
            wanted = f"at most {_LARGEST:,}"
        raise CheckpointError(f"'{name}' must be {wanted}, not {value!r:.80}.", where=where)

    def _is_right(self, value: Any) -> bool:
        if self.kind is int:
            return type(value) is int and self.least <= value <= _LARGEST
        if self.kind is float:
            return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)
        return type(value) is self.kind


def maybe(kind: type, default: Any = None, *, least: int = 1) -> Key:
    """A key whose value may be null."""
    return Key(kind, default, null=True, least=least)


def from_zero(default: int) -> Key:
    """A whole number from 0."""
    return Key(int, default, least=0)


HEAD_KEYS: Mapping[str, Key] = {
    "architectures": maybe(list),
    "num_labels": maybe(int, least=0),
    "id2label": maybe(dict),
}
"""Read by every family: the class, which determines the head, and what determines the number of labels."""

RECORDS = frozenset(
    {
        "model_type",  # by which the family was found
        "transformers_version",
        "dtype",  # the weights have their own
        "torch_dtype",
        "_name_or_path",
        "name_or_path",
        "is_encoder_decoder",  # the family is one or is not
        "tokenizer_class",
        "quantization_config",  # refused before the family is asked
        "attn_implementation",
    }
)
OUTPUTS = frozenset(
    {
        "label2id",  # the inverse of id2label
        "problem_type",  # how a head's outputs are read: checkpoints/head_config.py
        "return_dict",
        "output_hidden_states",
        "output_attentions",
        "tie_last_hidden_states",
        "use_cache",
        "chunk_size_feed_forward",  # the same sums in parts
        "pretraining_tp",
    }
)
TOKENS = frozenset(
    {
        "bos_token_id",  # read with generation_config.json
        "eos_token_id",
        "pad_token_id",
        "sep_token_id",
        "decoder_start_token_id",
        "forced_bos_token_id",
        "forced_eos_token_id",
    }
)
TRAINING = frozenset({"initializer_range", "attention_dropout", "classifier_dropout"})
NO_EFFECT = RECORDS | OUTPUTS | TOKENS | TRAINING
"""Keys of all classes that do not change the network."""

ONLY: Mapping[str, Any] = {
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_encoder_decoder": False,
    "pruned_heads": {},
    "per_layer_config": {},
}
"""Keys of all classes that change the network and are not supported, with the value that has no effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedKeys:
    """The keys of a family's config.json. The common ones above need not be declared.

    Attributes:
        read: Key -> how it is read; a plain value is a default that also gives the type.
        only: Key -> the only value that is supported; null and absent are the same as this one.
        no_effect: Keys that have no effect on the network's outputs.
        tokens: The token ids that generation takes where the file has none, of those that no tokenizer names.
        hints: What to do about a key with a value that is not supported, where more can be said than the value that is.
        aliases: Another name of a key -> the key. Where both are given the other name counts, as in transformers.
    """

    read: Mapping[str, Any]
    only: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    no_effect: frozenset[str] = frozenset()
    tokens: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    hints: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def keys(self) -> dict[str, Key]:
        """Every key that is read."""
        own = {name: key if isinstance(key, Key) else Key(type(key), key) for name, key in self.read.items()}
        return {**HEAD_KEYS, **own}

    def refused(self) -> dict[str, Any]:
        """Every key of which one value is supported."""
        return {name: value for name, value in {**ONLY, **self.only}.items() if name not in self.read}

    def known(self) -> frozenset[str]:
        """Every key that is accounted for."""
        return frozenset({*self.keys(), *self.refused(), *self.no_effect, *NO_EFFECT, *self.aliases})

    def values(self, hf: Mapping[str, Any]) -> dict[str, Any]:
        """The value of every key that is read.

        Raises:
            CheckpointError: a key is missing that may not be, or a value has the wrong type.
            UnsupportedError: a key has a value that is not supported; the message names both.
        """
        said = {**hf, **{name: hf[other] for other, name in self.aliases.items() if other in hf}}
        for name, value in self.refused().items():
            if said.get(name) not in (None, value):
                hint = self.hints.get(name, f"Supported: {value!r}.")
                raise UnsupportedError(f"{name}={said[name]!r:.80} is not supported.", where=WHERE, hint=hint)
        return {name: key.value(name, said) for name, key in self.keys().items()}
