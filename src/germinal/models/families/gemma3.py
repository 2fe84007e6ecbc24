"""Gemma 3's text models (arXiv 2503.19786)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.errors import UnsupportedError
from germinal.models.config import TransformerConfig
from germinal.models.families import llama, tokenizers
from germinal.models.families.family import Family, root_of_width
from germinal.models.families.gguf_format import (
    SCALING,
    GgufFormat,
    Metadata,
    Tensors,
    rotary_decoder,
    scaling_metadata,
    tensor_rules,
)
from germinal.models.families.published import activation, published_activation
from germinal.models.families.published_heads import head_to_hf
from germinal.models.families.published_keys import WHERE, Key, PublishedKeys, maybe
from germinal.models.families.qwen3 import GGUF_HEAD_NORMS, HEAD_NORMS
from germinal.models.families.rope import published_rope, rope, rope_to_hf, scaling
from germinal.models.families.windows import WHOLE, WINDOWED, layer_types, windows_from_hf
from germinal.models.weight_rules import Shift, WeightRule, WeightRules

DEFAULTS: dict[str, Any] = {
    **llama.DEFAULTS,
    "norm": "rms_offset",
    "norm_eps": 1e-6,
    "norm_placement": "sandwich",
    "activation": "gelu_tanh",
    "head_norm": True,
    "rope_theta": 1_000_000.0,
    "windowed_rope_theta": 10_000.0,
    "embedding_scale": root_of_width,
    "tie_embeddings": True,
}

_NAMES = {
    **llama.HF_NAMES,
    **HEAD_NORMS,
    "attention_output_norm": "post_attention_layernorm",
    "feed_forward_norm": "pre_feedforward_layernorm",
    "feed_forward_output_norm": "post_feedforward_layernorm",
}


KEYS = PublishedKeys(
    read={
        **{key: default for key, default in llama.SHARED.items() if key != "hidden_act"},
        "vocab_size": 262_208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131_072,
        "tie_word_embeddings": True,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "attention_bias": False,
        "query_pre_attn_scalar": 256,
        "sliding_window": maybe(int, 4096),
        "sliding_window_pattern": 6,
        "layer_types": maybe(list),
    },
    only={
        **llama.UNSUPPORTED,
        "final_logit_softcapping": None,
        "attn_logit_softcapping": None,
        "use_bidirectional_attention": False,
    },
    no_effect=llama.NO_EFFECT | {"_sliding_window_pattern"},  # a record of what layer_types was made from
)


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of a Gemma3ForCausalLM. Older files, such as Google's own, have a pattern rather than `layer_types`:
    every so many layers one has no window; by default the sixth.
    """
    said = KEYS.values(hf)
    pattern = said["sliding_window_pattern"]
    own = {
        "activation": activation(said["hidden_activation"]),
        "attention_bias": said["attention_bias"],
        "attention_output_bias": said["attention_bias"],
        "attention_scale": said["query_pre_attn_scalar"] ** -0.5,
        "embedding_scale": said["hidden_size"] ** 0.5,
    }
    windows = windows_from_hf(said, used=True, windowed=lambda layer: (layer + 1) % pattern != 0)
    shared = llama.shared_from_hf({**said, "hidden_act": said["hidden_activation"]})
    return TransformerConfig(**{**DEFAULTS, **shared, **windows, **_bases(said), **own})


def _bases(said: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary bases of layers with and without a window. As in transformers, `rope_scaling` is of those without, and
    counts before `rope_parameters`, which have an entry for each kind.
    """
    by_kind = said["rope_parameters"] or {}
    kinds = [by_kind.get(kind) for kind in (WHOLE, WINDOWED)]
    if (by_kind and kinds == [None, None]) or not all(each is None or isinstance(each, dict) for each in kinds):
        raise UnsupportedError(
            "must have an entry for each kind of layer.",
            where=f"{WHERE}: rope_parameters",
            hint=f"{WHOLE}, {WINDOWED}.",
        )
    whole = {**(by_kind.get(WHOLE) or {}), **(said["rope_scaling"] or {})}
    local = by_kind.get(WINDOWED) or {}
    if scaling(local, said) is not None:
        raise UnsupportedError(
            "scaling of layers with a window is not supported.", where=f"{WHERE}: rope_parameters.{WINDOWED}"
        )
    windowed = Key(float, said["rope_local_base_freq"]).value("rope_theta", local)
    return {
        **rope({**said, "rope_scaling": None, "rope_parameters": whole}),
        "windowed_rope_theta": float(windowed),
    }


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    """config.json for transformers 4 and 5, which need a window even where no layer has one."""
    published = llama.shared_to_hf(config)
    del published["hidden_act"]
    scale = config.head_dim**-0.5 if config.attention_scale is None else config.attention_scale
    local = config.rope_theta if config.windowed_rope_theta is None else config.windowed_rope_theta
    whole = rope_to_hf(config.rope_theta, config.rope_scaling)
    return {
        **head_to_hf(config, "Gemma3Text", FAMILY.architecture),
        "model_type": "gemma3_text",
        **published,
        **whole,
        "rope_local_base_freq": local,
        "rope_parameters": {WHOLE: whole["rope_parameters"], WINDOWED: published_rope(local, None)},
        "layer_types": layer_types(config),
        "sliding_window": KEYS.keys()["sliding_window"].default if config.window is None else config.window,
        "hidden_activation": published_activation(config.activation),
        "attention_bias": config.attention_bias,
        "query_pre_attn_scalar": max(1, round(scale**-2)),
    }


def hf_rules(config: TransformerConfig) -> WeightRules:
    """Names of transformers' Gemma3ForCausalLM."""
    return llama.named(_NAMES)


def gguf_rules(config: TransformerConfig) -> WeightRules:
    """Names of a GGUF file, which stores the norms' weights with 1 added."""
    names = {
        **llama.GGUF_LAYERS,
        **GGUF_HEAD_NORMS,
        "attention_output_norm": "post_attention_norm",
        "feed_forward_output_norm": "post_ffw_norm",
    }
    norms = {theirs: Shift(1.0) for theirs in names.values() if theirs.endswith("norm")}
    whole = WeightRule("output_norm.weight", "decoder.final_norm.weight", Shift(1.0))
    return WeightRules([whole, *tensor_rules(llama.GGUF_NAMES, names, norms)])


def _values_from_gguf(values: Metadata, metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    """Every sixth layer is not windowed, unless a list says which; the largest model has its own attention scale."""
    found = {"rope_theta": 10_000.0, **values, **rotary_decoder(values, metadata, tensors)}  # llama.cpp's, unless given
    if window := metadata.get("attention.sliding_window"):
        pattern = metadata.get("attention.sliding_window_pattern", 6)
        if isinstance(pattern, int):
            pattern = [pattern == 0 or layer % pattern < pattern - 1 for layer in range(values["num_layers"])]
        found |= {"window": window, "windowed_layers": tuple(map(bool, pattern))}
    if values["num_layers"] == 62:
        found["attention_scale"] = (values["hidden_size"] // values["num_heads"]) ** -0.5
    return found


def _describe(config: TransformerConfig) -> dict[str, Any]:
    windowed = [config.is_windowed(layer) for layer in range(config.num_layers)]
    if not any(windowed):
        return scaling_metadata(config)
    said: dict[str, Any] = {"attention.sliding_window": config.window}
    if windowed != [layer % 6 < 5 for layer in range(config.num_layers)]:
        said["attention.sliding_window_pattern"] = windowed
    return said | scaling_metadata(config)


FAMILY = Family(
    name="gemma3",
    paper="arXiv 2503.19786",
    defaults=DEFAULTS,
    model_types=("gemma3_text",),
    architecture="Gemma3ForCausalLM",
    keys=KEYS,
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=hf_rules,
    tokenizer=tokenizers.PIECES_AFTER_BOS,
    gguf=GgufFormat(
        architecture="gemma3",
        keys={**llama.GGUF_KEYS, "rope.freq_base_swa": "windowed_rope_theta"},
        rules=gguf_rules,
        derive=_values_from_gguf,
        derived=SCALING | {"attention.sliding_window", "attention.sliding_window_pattern"},
        describe=_describe,
    ),
)
