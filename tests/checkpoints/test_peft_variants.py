"""Every kind of adapter that germinal holds, against PEFT: the same outputs when read, and when written and read there.

PEFT trains what it marks as trained; here random numbers take the place of the training.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from tiny_models import ours_from
from torch import Tensor

from germinal.checkpoints.peft_folder import load_adapter, save_adapter
from germinal.errors import CheckpointError, UnsupportedError
from germinal.layers.adapters import routed
from germinal.models import families
from germinal.models.transformer import Transformer

VOCABULARY = 50
IDS = torch.arange(2 * 9).reshape(2, 9) * 7 % (VOCABULARY - 3) + 3
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32, "initializer_range": 0.3}
T5 = {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 3, "num_heads": 4}


def llama(**overrides: Any) -> Any:
    config = transformers.LlamaConfig(**{**SIZES, "num_key_value_heads": 2, **overrides})
    return transformers.LlamaForCausalLM(config)


MODELS: dict[str, Callable[[], Any]] = {
    "llama": llama,
    "llama, biases": lambda: llama(attention_bias=True, mlp_bias=True),
    "llama, tied": lambda: llama(tie_word_embeddings=True),
    "gemma": lambda: transformers.Gemma3ForCausalLM(
        transformers.Gemma3TextConfig(**SIZES, num_key_value_heads=2, head_dim=4)
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2)),
    "bloom": lambda: transformers.BloomForCausalLM(
        transformers.BloomConfig(vocab_size=VOCABULARY, hidden_size=16, n_layer=2, n_head=4, initializer_range=0.3)
    ),
    "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SIZES)),
    "t5": lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(**T5)),
}


def adapted(model: Any, folder: Path, saving: dict[str, Any], **settings: Any) -> Any:
    """A model of PEFT with an adapter that was trained and written."""
    task = "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else None
    tuned = peft.get_peft_model(model, peft.LoraConfig(task_type=task, r=4, lora_alpha=6, **settings))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in tuned.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    tuned.save_pretrained(folder, **saving)
    return tuned


def inputs(model: Any) -> dict[str, Tensor]:
    return {"decoder_input_ids": IDS[:, :4]} if model.config.is_encoder_decoder else {}


@torch.no_grad()
def theirs(model: Any) -> Tensor:
    found: Tensor = model.eval()(input_ids=IDS, **inputs(model)).logits
    return found


@torch.no_grad()
def ours(network: Transformer, model: Any) -> Tensor:
    with routed(network, "film"):
        return network.logits(network(IDS, **inputs(model)))


CASES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {r"layers\.0\..*": 2, "v_proj": 3}}),
    ("llama", {"target_modules": ["q_proj"], "alpha_pattern": {"^model.layers.1.*": 3, "q_proj": 8}}),
    ("llama", {"target_modules": r"^(?!.*layers\.0)model.*(q|v)_proj$"}),
    ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [0, 2], "layers_pattern": ["h", "layers"]}),
    ("t5", {"target_modules": ["q"], "layers_to_transform": [0], "layers_pattern": "layer"}),
    ("llama", {"target_modules": ["lm_head"]}),
    ("llama, tied", {"target_modules": ["lm_head", "up_proj"]}),
    ("llama", {"target_modules": ["embed_tokens", "q_proj"]}),
    ("llama, tied", {"target_modules": ["embed_tokens", "lm_head"]}),
    ("llama, tied", {"target_modules": ["embed_tokens"], "ensure_weight_tying": True}),
    ("llama, tied", {"target_modules": ["embed_tokens", "lm_head"], "ensure_weight_tying": True}),
    ("gemma", {"target_modules": ["embed_tokens", "q_proj"]}),
    ("bert", {"target_modules": ["word_embeddings", "position_embeddings", "decoder", "dense"]}),
    ("llama, biases", {"target_modules": "all-linear", "use_dora": True}),
    ("llama", {"target_modules": ["embed_tokens", "lm_head"], "use_dora": True}),
    ("gemma", {"target_modules": ["embed_tokens"], "use_dora": True}),
    ("gpt2", {"target_modules": ["c_attn", "c_proj"], "use_dora": True, "fan_in_fan_out": True}),
    ("bloom", {"target_modules": ["query_key_value"], "use_dora": True}),
    ("llama, biases", {"target_modules": ["q_proj", "v_proj"], "bias": "lora_only"}),
    ("gpt2", {"target_modules": ["c_attn"], "bias": "lora_only", "fan_in_fan_out": True}),
    ("bert", {"target_modules": ["query"], "bias": "all"}),
    ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "norm"]}),
    ("gemma", {"target_modules": ["q_proj"], "modules_to_save": ["q_norm", "layers.1.mlp"]}),
    ("llama, tied", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
    ("llama, tied", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]}),
    ("gpt2", {"target_modules": ["c_fc"], "modules_to_save": ["attn.c_attn", "wpe"], "fan_in_fan_out": True}),
    ("llama", {"target_modules": ["q_proj"], "trainable_token_indices": [5, 9]}),
    ("llama", {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [5], "lm_head": [7, 9]}}),
    ("llama, tied", {"target_modules": ["q_proj"], "trainable_token_indices": [5, 9]}),
    ("llama, tied", {"target_modules": ["q_proj"], "trainable_token_indices": {"lm_head": [7]}}),
    ("llama, tied", {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [5], "lm_head": [7]}}),
    ("t5", {"target_modules": ["q"], "trainable_token_indices": [5, 9]}),
]


def label(case: object) -> str:
    if isinstance(case, dict):
        return " ".join(f"{key}={value}" for key, value in case.items() if key != "fan_in_fan_out")
    return str(case)


BESIDE_EMBEDDINGS = [case for case in CASES if {"embed_tokens", "lm_head"}.intersection(case[1]["target_modules"])]
"""PEFT writes the base's embeddings beside these, unless it is told not to."""


@pytest.mark.parametrize(
    ("name", "settings", "saving"),
    [(*case, {}) for case in CASES] + [(*case, {"save_embedding_layers": False}) for case in BESIDE_EMBEDDINGS],
    ids=label,
)
def test_the_outputs_are_pefts(name: str, settings: dict[str, Any], saving: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = MODELS[name]()
    network, plain = ours_from(base), theirs(base)
    family = families.for_hf(base.config.to_dict())
    expected = theirs(adapted(base, tmp_path / "theirs", saving, **settings))
    assert (expected - plain).abs().max() > 0.01

    load_adapter(network, tmp_path / "theirs", "film", family=family)
    torch.testing.assert_close(ours(network, base), expected, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(network.logits(network(IDS, **inputs(base))), plain, atol=1e-4, rtol=1e-4)

    save_adapter(network, "film", tmp_path / "ours", family=family)
    torch.manual_seed(0)
    again = peft.PeftModel.from_pretrained(MODELS[name](), tmp_path / "ours")
    torch.testing.assert_close(theirs(again), expected, atol=1e-4, rtol=1e-4)


CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaForSequenceClassification(
        transformers.LlamaConfig(**SIZES, num_key_value_heads=2, num_labels=3, pad_token_id=0)
    ),
    "bert": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES, num_labels=3)),
    "roberta": lambda: transformers.RobertaForSequenceClassification(
        transformers.RobertaConfig(**SIZES, num_labels=3, pad_token_id=1)
    ),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifiers_head_comes_with_its_adapter(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = CLASSIFIERS[name]()
    base.save_pretrained(tmp_path / "base")
    network, family = ours_from(base), families.for_hf(base.config.to_dict())
    config = peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules="all-linear")
    tuned = peft.get_peft_model(base, config)
    with torch.no_grad():
        for _, parameter in tuned.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    tuned.save_pretrained(tmp_path / "theirs")
    load_adapter(network, tmp_path / "theirs", "film", family=family)
    expected = theirs(tuned)
    with torch.no_grad(), routed(network, "film"):
        assert network.head is not None
        torch.testing.assert_close(network.head(network(IDS)), expected, atol=1e-4, rtol=1e-4)
    save_adapter(network, "film", tmp_path / "ours", family=family, base=str(tmp_path / "base"))
    again = peft.AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "ours")
    torch.testing.assert_close(theirs(again), expected, atol=1e-4, rtol=1e-4)


def test_an_adapter_of_a_classifier_is_refused_by_a_model_without_its_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tuned = peft.get_peft_model(CLASSIFIERS["llama"](), peft.LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj"]))
    tuned.save_pretrained(tmp_path / "adapter")
    with pytest.raises(CheckpointError, match=r"do not: base_model.model.score.weight\. Is the base"):
        load_adapter(ours_from(llama()), tmp_path / "adapter", "film", family=families.FAMILIES["llama"])


def test_an_adapter_of_a_model_without_a_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = llama(tie_word_embeddings=True)
    network = ours_from(base)
    settings = {
        "target_modules": r"layers\.\d+\.self_attn\.(q|v)_proj",
        "modules_to_save": ["norm"],
        "rank_pattern": {"^layers.1.*": 2},
    }
    tuned = peft.get_peft_model(base.model, peft.LoraConfig(r=4, **settings))
    with torch.no_grad():
        for _, parameter in tuned.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    tuned.save_pretrained(tmp_path / "adapter")
    load_adapter(network, tmp_path / "adapter", "film", family=families.FAMILIES["llama"])
    with torch.no_grad(), routed(network, "film"):
        expected = tuned.eval()(input_ids=IDS).last_hidden_state
        torch.testing.assert_close(network(IDS), expected, atol=1e-4, rtol=1e-4)


def test_embeddings_that_the_stacks_of_a_model_share_are_not_adapted(tmp_path: Path) -> None:
    base = MODELS["t5"]()
    network = ours_from(base)
    adapted(base, tmp_path / "adapter", {}, target_modules=["shared", "q"])
    with pytest.raises(UnsupportedError, match="embedding of an encoder-decoder"):
        load_adapter(network, tmp_path / "adapter", "film", family=families.FAMILIES["t5"])
