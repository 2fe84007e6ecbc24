"""Random models of every generative family that transformers has, and its answers to prompts."""

from __future__ import annotations

import random
from collections.abc import Sequence as SequenceOf
from typing import Any

import torch
import transformers
from tiny_models import ours_from

from germinal.generation.backends.torch_backend import TorchBackend
from germinal.generation.config import GenerationConfig
from germinal.generation.engine import Engine
from germinal.generation.sequence import Sequence
from germinal.models.transformer import Transformer

VOCABULARY = 61
PAD, START, EOS = 1, 0, 2

_IDS = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": EOS}
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 128,
}
_BART = {
    "vocab_size": VOCABULARY,
    "d_model": 24,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 128,
    "decoder_start_token_id": START,
    "forced_eos_token_id": None,
}
_T5 = {"vocab_size": VOCABULARY, "d_model": 24, "d_kv": 5, "d_ff": 40, "num_layers": 2, "num_heads": 4}
_T5 |= {
    "decoder_start_token_id": START,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "relative_attention_max_distance": 20,
}

CONFIGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", _SIZES),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": VOCABULARY, "n_embd": 24, "n_head": 4, "n_layer": 2, "n_positions": 128},
    ),
    "bloom": (
        "BloomForCausalLM",
        "BloomConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 24, "n_head": 6, "n_layer": 2},
    ),
    "mistral": ("MistralForCausalLM", "MistralConfig", {**_SIZES, "sliding_window": 5}),
    "qwen2": (
        "Qwen2ForCausalLM",
        "Qwen2Config",
        {**_SIZES, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**_SIZES, "head_dim": 10}),
    "gemma3": (
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        {**_SIZES, "num_hidden_layers": 7, "head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 16},
    ),
    "t5": ("T5ForConditionalGeneration", "T5Config", _T5),
    "flan-t5": ("T5ForConditionalGeneration", "T5Config", {**_T5, "feed_forward_proj": "gated-gelu"}),
    "bart": ("BartForConditionalGeneration", "BartConfig", _BART),
    "marian": ("MarianMTModel", "MarianConfig", {**_BART, "scale_embedding": True, "activation_function": "swish"}),
}
TWO_STACKS = ("t5", "flan-t5", "bart", "marian")


def random_model(family: str, seed: int = 0, **overrides: Any) -> Any:
    """A model of transformers whose next tokens are far apart in probability."""
    model_class, config_class, settings = CONFIGS[family]
    torch.manual_seed(seed)
    config = getattr(transformers, config_class)(**{**settings, **_IDS, **overrides}, attn_implementation="eager")
    model = getattr(transformers, model_class)(config)
    for name, parameter in model.named_parameters():
        if family == "marian" and "embed_positions" in name:  # sinusoids, not learned
            continue
        if parameter.dim() > 1:  # what the layers add outweighs the token's own embedding, or tied models repeat it
            torch.nn.init.normal_(parameter, std=0.15 if parameter.shape[0] == VOCABULARY else 1.2)
        else:
            parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
    model.tie_weights()
    return model.eval()


def network_of(model: Any) -> Transformer:
    network: Transformer = ours_from(model)
    return network


def prompts(count: int, seed: int = 0, longest: int = 20) -> list[list[int]]:
    """Random prompts of different lengths."""
    chance = random.Random(seed)
    return [[chance.randrange(3, VOCABULARY) for _ in range(chance.randint(1, longest))] for _ in range(count)]


def their_answers(family: str, model: Any, many: SequenceOf[list[int]], **settings: Any) -> list[list[int]]:
    """transformers' answers to one padded batch, each without its end-of-sequence token and what follows."""
    longest = max(map(len, many))
    left = family not in TWO_STACKS
    ids, mask = [], []
    for prompt in many:
        padding = longest - len(prompt)
        ids.append([PAD] * padding + prompt if left else prompt + [PAD] * padding)
        mask.append([0] * padding + [1] * len(prompt) if left else [1] * len(prompt) + [0] * padding)
    output = model.generate(
        torch.tensor(ids),
        attention_mask=torch.tensor(mask),
        **{"do_sample": False, "eos_token_id": EOS, "pad_token_id": PAD, **settings},
    )
    ends = settings.get("eos_token_id", EOS)
    ends = set(ends) if isinstance(ends, list) else {ends}
    answers = []
    for row in output[:, longest if left else 1 :].tolist():
        places = [place for place, token in enumerate(row) if token in ends]
        answers.append(row[: places[0]] if places else row)
    return answers


def our_sequence(family: str, prompt: list[int], config: GenerationConfig, **more: Any) -> Sequence:
    if family in TWO_STACKS:
        return Sequence([START], config, encoder_input_ids=prompt, **more)
    return Sequence(prompt, config, **more)


def run(engine: Engine, sequences: SequenceOf[Sequence]) -> list[list[int]]:
    for sequence in sequences:
        engine.add(sequence)
    while engine.has_work:
        engine.step()
    return [sequence.token_ids for sequence in sequences]


def our_answers(
    family: str,
    network: Transformer,
    many: SequenceOf[list[int]],
    configs: SequenceOf[GenerationConfig],
    *,
    num_slots: int = 32,
    max_step_tokens: int = 256,
) -> list[list[int]]:
    """Our answers, all at once."""
    engine = Engine(TorchBackend(network, num_slots), max_step_tokens)
    pairs = zip(many, configs, strict=True)
    return run(engine, [our_sequence(family, prompt, config) for prompt, config in pairs])
