"""Two families of the tests' own, a LLaMA and a parallel decoder but for how their projections are fused, and random
models of transformers that have these layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from germinal.models.config import TransformerConfig
from germinal.models.families import Family, llama
from germinal.models.families.family import follow
from germinal.models.families.published import fused_qkv, layer_rules, module_rules
from germinal.models.weight_rules import Split, WeightRule, WeightRules


def of_phi3(config: TransformerConfig) -> WeightRules:
    """Queries, keys and values one above the other, as are gate and up."""
    theirs, ours = "model.layers.{i}", "decoder.layers.{i}"
    gated = tuple(f"{ours}.feed_forward.{part}_proj.weight" for part in ("gate", "up"))
    plain = {name: published for name, published in llama.HF_NAMES.items() if name[-6] not in "qkv"}
    return WeightRules(
        [
            *module_rules({"embed_tokens": "model.embed_tokens", "decoder.final_norm": "model.norm"}),
            *module_rules({"lm_head": "lm_head"}),
            *fused_qkv(f"{theirs}.self_attn.qkv_proj", f"{ours}.self_attention", config),
            WeightRule(f"{theirs}.mlp.gate_up_proj.weight", gated, Split((config.intermediate_size,) * 2)),
            *layer_rules(theirs, ours, plain),
        ]
    )


def of_falcon(config: TransformerConfig) -> WeightRules:
    """The queries, the key and the value of one key-value head at a time."""
    theirs, ours = "transformer.h.{i}", "decoder.layers.{i}"
    around = {"embed_tokens": "transformer.word_embeddings", "decoder.final_norm": "transformer.ln_f"}
    names = {"norm": "input_layernorm", "self_attention.o_proj": "self_attention.dense"}
    names |= {"feed_forward.up_proj": "mlp.dense_h_to_4h", "feed_forward.down_proj": "mlp.dense_4h_to_h"}
    qkv = f"{theirs}.self_attention.query_key_value"
    return WeightRules(
        [
            *module_rules({**around, "lm_head": "lm_head"}),
            *fused_qkv(qkv, f"{ours}.self_attention", config, grouped=True),
            *layer_rules(theirs, ours, names),
        ]
    )


def falcon_config(hf: Mapping[str, Any]) -> TransformerConfig:
    names = {"hidden_size": "hidden_size", "num_layers": "num_hidden_layers", "num_heads": "num_attention_heads"}
    names |= {"num_kv_heads": "num_kv_heads", "intermediate_size": "ffn_hidden_size", "vocab_size": "vocab_size"}
    sizes = {ours: hf[theirs] for ours, theirs in names.items()}
    axes = {"norm": "layer", "block": "parallel", "activation": "gelu", "gated": False, "tie_embeddings": True}
    biases = dict.fromkeys(("attention_bias", "attention_output_bias", "feed_forward_bias"), hf["bias"])
    return TransformerConfig(**follow({**sizes, **axes, **biases, "max_position_embeddings": 64}))


def family(name: str, config: Callable[..., TransformerConfig], rules: Callable[..., WeightRules]) -> Family:
    def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
        return {**llama.config_to_hf(config), "model_type": name, "pad_token_id": 0}

    return Family(
        name=name,
        paper="",
        defaults=llama.DEFAULTS,
        model_types=(name,),
        architecture="",
        config_from_hf=config,
        config_to_hf=config_to_hf,
        hf_rules=rules,
    )


PHI3 = family("phi3", llama.config_from_hf, of_phi3)
FALCON = family("falcon", falcon_config, of_falcon)
FUSED = (PHI3, FALCON)
SIZES = {"vocab_size": 64, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6, "pad_token_id": 0}


def randomised(model: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2, generator=generator)
    return model.eval()


def phi3(**settings: Any) -> Any:
    from transformers import Phi3Config, Phi3ForCausalLM

    sizes: dict[str, Any] = {**SIZES, "intermediate_size": 40, "max_position_embeddings": 64, **settings}
    return randomised(Phi3ForCausalLM(Phi3Config(attn_implementation="eager", **sizes)))


def falcon(**settings: Any) -> Any:
    from transformers import FalconConfig, FalconForCausalLM

    layout = {"new_decoder_architecture": True, "num_ln_in_parallel_attn": 1, "ffn_hidden_size": 40}
    return randomised(FalconForCausalLM(FalconConfig(attn_implementation="eager", **SIZES, **layout, **settings)))
