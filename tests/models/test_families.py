"""Every family that transformers has, against transformers: outputs, gradients, configs, weights there and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from tiny_models import ours_from

from germinal.layers import activations as layers
from germinal.models import families
from germinal.models.families.published import ACTIVATIONS, activation
from germinal.models.inspection import trace
from germinal.models.transformer import Transformer

HEADED = {
    "hidden_size": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 40,
    "vocab_size": 61,
}
GROUPED = {**HEADED, "num_key_value_heads": 2, "max_position_embeddings": 64}
BERT = {**HEADED, "max_position_embeddings": 48}
BART = {
    "vocab_size": 61,
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 48,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
MARIAN = {**BART, "decoder_start_token_id": 1}
T5 = {"vocab_size": 61, "d_model": 24, "d_kv": 5, "d_ff": 40, "num_layers": 2, "num_heads": 4}
GPT2 = {"vocab_size": 61, "n_embd": 24, "n_head": 4, "n_layer": 2, "n_positions": 48}
BLOOM = {"vocab_size": 61, "hidden_size": 24, "n_head": 4, "n_layer": 2, "seq_length": 48}
DISTIL = {"vocab_size": 61, "dim": 24, "n_heads": 4, "n_layers": 2, "hidden_dim": 40, "max_position_embeddings": 48}
GEMMA = {**GROUPED, "head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 16}

CONFIGS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "GPT2": [
        ("LMHeadModel", GPT2),
        ("LMHeadModel", {**GPT2, "n_inner": 30, "activation_function": "relu"}),
        ("LMHeadModel", {**GPT2, "n_embd": 21, "n_head": 3}),
        ("LMHeadModel", {**GPT2, "scale_attn_weights": False}),
        ("LMHeadModel", {**GPT2, "scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True}),
        ("LMHeadModel", {**GPT2, "tie_word_embeddings": False, "activation_function": "quick_gelu"}),
        ("LMHeadModel", {**GPT2, "n_layer": 1, "layer_norm_epsilon": 1e-3, "activation_function": "gelu"}),
        ("ForSequenceClassification", {**GPT2, "num_labels": 3, "pad_token_id": 0}),
        ("ForTokenClassification", {**GPT2, "num_labels": 4}),
    ],
    "Bloom": [
        ("ForCausalLM", BLOOM),
        ("ForCausalLM", {**BLOOM, "n_head": 3}),
        ("ForCausalLM", {**BLOOM, "n_head": 6}),
        ("ForCausalLM", {**BLOOM, "n_head": 12, "n_layer": 1}),
        ("ForCausalLM", {**BLOOM, "hidden_size": 35, "n_head": 7, "layer_norm_epsilon": 1e-3}),
        ("ForSequenceClassification", {**BLOOM, "num_labels": 1, "pad_token_id": 0}),
        ("ForTokenClassification", {**BLOOM, "num_labels": 3}),
    ],
    "Llama": [  # more in test_llama.py
        ("ForSequenceClassification", {**GROUPED, "num_labels": 1, "pad_token_id": 0}),
        ("ForSequenceClassification", {**GROUPED, "num_labels": 3, "pad_token_id": 0, "attention_bias": True}),
        ("ForTokenClassification", {**GROUPED, "num_labels": 4}),
        ("Model", GROUPED),
    ],
    "Bert": [
        ("ForMaskedLM", BERT),
        ("Model", BERT),
        ("ForSequenceClassification", {**BERT, "num_labels": 3}),
        ("ForTokenClassification", {**BERT, "num_labels": 5}),
        ("ForQuestionAnswering", BERT),
        ("ForMaskedLM", {**BERT, "tie_word_embeddings": False, "hidden_act": "mish"}),
        ("ForMaskedLM", {**BERT, "hidden_act": "gelu_new", "type_vocab_size": 3, "layer_norm_eps": 1e-5}),
        ("ForPreTraining", {**BERT, "hidden_size": 21, "num_attention_heads": 3}),
    ],
    "Roberta": [
        ("ForMaskedLM", BERT),
        ("Model", {**BERT, "pad_token_id": 0}),
        ("ForMaskedLM", {**BERT, "pad_token_id": 5, "hidden_act": "relu"}),
        ("ForMaskedLM", {**BERT, "type_vocab_size": 1, "tie_word_embeddings": False}),
        ("ForSequenceClassification", {**BERT, "num_labels": 3, "hidden_act": "relu"}),
        ("ForTokenClassification", {**BERT, "num_labels": 2, "num_hidden_layers": 1}),
        ("ForQuestionAnswering", {**BERT, "hidden_size": 21, "num_attention_heads": 3}),
    ],
    "DistilBert": [
        ("ForMaskedLM", DISTIL),
        ("Model", DISTIL),
        ("ForSequenceClassification", {**DISTIL, "num_labels": 3}),
        ("ForTokenClassification", {**DISTIL, "num_labels": 4, "activation": "relu"}),
        ("ForQuestionAnswering", {**DISTIL, "dim": 21, "n_heads": 3}),
    ],
    "Bart": [
        ("ForConditionalGeneration", BART),
        ("ForConditionalGeneration", {**BART, "scale_embedding": True}),
        ("ForConditionalGeneration", {**BART, "encoder_layers": 3, "decoder_layers": 1}),
        ("ForConditionalGeneration", {**BART, "d_model": 20, "activation_function": "relu"}),
        ("ForConditionalGeneration", {**BART, "encoder_ffn_dim": 17, "decoder_ffn_dim": 29}),
        ("ForConditionalGeneration", {**BART, "encoder_attention_heads": 6, "decoder_attention_heads": 3}),
        ("ForSequenceClassification", {**BART, "num_labels": 3, "decoder_start_token_id": 2}),
        ("Model", BART),
    ],
    "Marian": [
        ("MTModel", MARIAN),
        ("MTModel", {**MARIAN, "scale_embedding": True, "activation_function": "swish"}),
        ("MTModel", {**MARIAN, "encoder_layers": 1, "decoder_layers": 3, "encoder_attention_heads": 2}),
        ("MTModel", {**MARIAN, "d_model": 20, "activation_function": "relu"}),
        ("MTModel", {**MARIAN, "max_position_embeddings": 40}),
    ],
    "T5": [
        ("ForConditionalGeneration", T5),
        ("ForConditionalGeneration", {**T5, "feed_forward_proj": "gated-gelu"}),
        ("ForConditionalGeneration", {**T5, "num_decoder_layers": 3, "feed_forward_proj": "gated-silu"}),
        (
            "ForConditionalGeneration",
            {**T5, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 9},
        ),
        ("ForConditionalGeneration", {**T5, "d_kv": 7, "num_heads": 3, "layer_norm_epsilon": 1e-4}),
        ("ForSequenceClassification", {**T5, "num_labels": 2, "decoder_start_token_id": 0}),
        ("Model", T5),
        ("EncoderModel", {**T5, "feed_forward_proj": "gated-gelu"}),
    ],
    "Mistral": [
        ("ForCausalLM", {**GROUPED, "sliding_window": 5}),
        ("ForCausalLM", {**GROUPED, "sliding_window": None}),
        ("ForCausalLM", {**GROUPED, "sliding_window": 1, "num_hidden_layers": 1}),
        ("ForCausalLM", {**GROUPED, "sliding_window": 30, "head_dim": 10}),
        ("ForCausalLM", {**GROUPED, "tie_word_embeddings": True, "num_key_value_heads": 1, "sliding_window": 4}),
        ("ForSequenceClassification", {**GROUPED, "num_labels": 2, "pad_token_id": 0, "sliding_window": 5}),
    ],
    "Qwen2": [
        ("ForCausalLM", GROUPED),
        ("ForCausalLM", {**GROUPED, "tie_word_embeddings": True}),
        ("ForCausalLM", {**GROUPED, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
        ("ForCausalLM", {**GROUPED, "num_key_value_heads": 4}),
        (
            "ForCausalLM",
            {
                **GROUPED,
                "use_sliding_window": True,
                "sliding_window": 4,
                "layer_types": ["sliding_attention", "full_attention"],
                "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
            },
        ),
        ("ForCausalLM", {**GROUPED, "num_key_value_heads": 1, "rms_norm_eps": 1e-3}),
        ("ForSequenceClassification", {**GROUPED, "num_labels": 1, "pad_token_id": 0}),
        ("ForTokenClassification", {**GROUPED, "num_labels": 3, "tie_word_embeddings": True}),
    ],
    "Qwen3": [
        ("ForCausalLM", {**GROUPED, "head_dim": 10}),
        ("ForCausalLM", {**GROUPED, "head_dim": 6, "tie_word_embeddings": True}),
        ("ForCausalLM", {**GROUPED, "head_dim": 8, "attention_bias": True}),
        ("ForCausalLM", {**GROUPED, "head_dim": 8, "num_key_value_heads": 1}),
        ("ForCausalLM", {**GROUPED, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
        ("ForSequenceClassification", {**GROUPED, "head_dim": 8, "num_labels": 1, "pad_token_id": 0}),
    ],
    "Gemma3": [
        ("ForCausalLM", {**GEMMA, "num_hidden_layers": 7}),
        ("ForCausalLM", {**GEMMA, "layer_types": ["full_attention", "sliding_attention"]}),
        ("ForCausalLM", {**GEMMA, "layer_types": ["full_attention"] * 2, "query_pre_attn_scalar": 8}),
        ("ForCausalLM", {**GEMMA, "num_key_value_heads": 1, "head_dim": 6}),
        ("ForCausalLM", {**GEMMA, "num_hidden_layers": 3, "sliding_window_pattern": 2}),
        (
            "ForCausalLM",
            {
                **GEMMA,
                "num_hidden_layers": 3,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
                "rope_local_base_freq": 100.0,
                "rope_theta": 5000.0,
                "sliding_window_pattern": 3,
            },
        ),
        ("ForCausalLM", {**GEMMA, "attention_bias": True, "rms_norm_eps": 1e-4}),
        ("TextForSequenceClassification", {**GEMMA, "num_labels": 3, "pad_token_id": 0}),
    ],
}


def cases() -> list[Any]:
    return [
        pytest.param(family, ending, config, id=f"{family}{ending}-{number}")
        for family, models in CONFIGS.items()
        for number, (ending, config) in enumerate(models)
    ]


def peer(family: str, ending: str, config: dict[str, Any]) -> Any:
    """A random model of transformers whose outputs differ from token to token."""
    torch.manual_seed(0)
    config_class = getattr(transformers, f"{family}TextConfig" if family == "Gemma3" else f"{family}Config")
    model = getattr(transformers, family + ending)(config_class(**config, attn_implementation="eager"))
    for name, parameter in model.named_parameters():
        if family != "Marian" or "embed_positions" not in name:  # sinusoids, not learned
            torch.nn.init.normal_(parameter, std=0.15)
    model.tie_weights()
    return model.eval()


def batch(two_stacks: bool, padding: str) -> dict[str, torch.Tensor]:
    """Two sequences of 13 tokens, the first one padded."""
    torch.manual_seed(1)
    ids = torch.randint(3, 61, (2, 13))
    mask = torch.ones_like(ids)
    if padding != "none":
        mask[0, slice(0, 4) if padding == "left" else slice(-4, None)] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if two_stacks:
        inputs["decoder_input_ids"] = torch.randint(3, 61, (2, 9))
    return inputs


def answer(network: Transformer, hidden_states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What the model's head makes of its hidden states."""
    if network.config.head in ("lm", "masked-lm"):
        return network.logits(hidden_states)
    return hidden_states if network.head is None else network.head(hidden_states, mask)


def moved_right(ids: torch.Tensor, start: int) -> torch.Tensor:
    """What the decoder of an encoder-decoder reads when it classifies: the text behind its start token."""
    return torch.cat((torch.full_like(ids[:, :1], start), ids[:, :-1]), 1)


def expected_answer(family: str, ending: str, output: Any) -> torch.Tensor:
    if ending.endswith("Model") and ending != "LMHeadModel" and ending != "MTModel":
        return output.pooler_output if family in ("Bert", "Roberta") else output.last_hidden_state
    if ending == "ForPreTraining":
        return output.prediction_logits
    if ending == "ForQuestionAnswering":
        return torch.stack((output.start_logits, output.end_logits), -1)
    return output.logits


@pytest.mark.parametrize("padding", ["none", "right", "left"])
@pytest.mark.parametrize(("family", "ending", "config"), cases())
def test_outputs_and_gradients(family: str, ending: str, config: dict[str, Any], padding: str) -> None:
    theirs = peer(family, ending, config)
    ours: Transformer = ours_from(theirs)
    two_stacks = ours.config.stacks == "encoder-decoder"
    inputs = batch(two_stacks, padding)
    if ours.config.num_token_types > 1:
        inputs["token_type_ids"] = torch.randint(0, 2, (2, 13))
    if ours.config.pooled_token == "last":  # transformers finds the last token by the ids, and not by the mask
        if two_stacks and padding == "left":
            pytest.skip("the published class reads padding on the left as text")
        inputs["input_ids"] = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, theirs.config.pad_token_id)
    if two_stacks and ours.config.head == "sequence-classification":
        last = inputs["attention_mask"].sum(-1) - 1
        inputs["input_ids"][[0, 1], last] = theirs.config.eos_token_id
        inputs["decoder_input_ids"] = moved_right(inputs["input_ids"], theirs.config.decoder_start_token_id)
    expected = expected_answer(family, ending, theirs(**inputs))
    ours.requires_grad_(True)
    hidden_states = ours(**inputs)
    found = answer(ours, hidden_states, inputs["attention_mask"])
    per_token = found.shape[:2] == hidden_states.shape[:2] and not two_stacks
    real = inputs["attention_mask"].bool() if per_token else slice(None)
    if padding == "left" and not per_token and ours.config.stacks == "encoder":
        real = slice(1, None)  # the first token, from which it is read, is padding in the other sequence
    torch.testing.assert_close(found[real], expected[real], atol=1e-4, rtol=1e-4)

    weights = torch.randn_like(found[real])
    (found[real] * weights).mean().backward()
    (expected[real] * weights).mean().backward()
    rules = families.for_hf(theirs.config.to_dict()).hf_rules(ours.config)
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    checked = 0
    for name, gradient in gradients.items():
        names, transform = rules.ours(name) or ((), None)
        if gradient is None or transform is None:
            continue
        parameters = dict(ours.named_parameters())
        for each, part in zip(names, transform.to_ours(gradient), strict=True):
            if each in parameters and parameters[each].grad is not None:
                torch.testing.assert_close(parameters[each].grad, part, atol=1e-3, rtol=1e-3)
                checked += 1
    assert checked > 10


@pytest.mark.parametrize(("ending", "config"), CONFIGS["Roberta"])
@torch.no_grad()
def test_roberta_counts_positions_by_the_id_of_the_padding(ending: str, config: dict[str, Any]) -> None:
    """Also where the padding token is part of the text, or where a mask hides other tokens."""
    theirs = peer("Roberta", ending, config)
    ours = ours_from(theirs)
    inputs = batch(False, "right")
    inputs["input_ids"][1, [0, 5, 6]] = theirs.config.pad_token_id
    found = answer(ours, ours(**inputs), inputs["attention_mask"])
    expected = expected_answer("Roberta", ending, theirs(**inputs))
    real = inputs["attention_mask"].bool() if found.shape[:2] == (2, 13) else slice(None)
    torch.testing.assert_close(found[real], expected[real], atol=1e-4, rtol=1e-4)
    seen = trace(ours, inputs["input_ids"][1].tolist()).hidden_states
    torch.testing.assert_close(seen, ours(inputs["input_ids"][1:])[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("family", "ending", "config"), cases())
def test_config_and_weights_there_and_back(family: str, ending: str, config: dict[str, Any]) -> None:
    theirs = peer(family, ending, config)
    ours: Transformer = ours_from(theirs)
    published = theirs.config.to_dict() | {"architectures": [type(theirs).__name__]}
    found = families.for_hf(published)
    assert found.config_from_hf(found.config_to_hf(ours.config)) == ours.config
    weights = dict(found.hf_rules(ours.config).convert_to_theirs(ours.state_dict()))
    state = theirs.state_dict()
    for name, tensor in weights.items():
        key = name if name in state else name.split(".", 1)[1]
        torch.testing.assert_close(tensor, state[key], rtol=0, atol=0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_the_one_of_that_name(name: str) -> None:
    """All forms of the tanh approximation are the same function."""
    inputs = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    found = layers.ACTIVATIONS[activation(name)](inputs)
    torch.testing.assert_close(found, transformers.activations.ACT2FN[name](inputs), atol=1e-9, rtol=1e-9)


def test_only_activations_that_have_weights_or_score_experts_are_not_known() -> None:
    assert set(transformers.activations.ACT2FN) - set(ACTIVATIONS) == {"prelu", "xielu", "sqrtsoftplus"}
