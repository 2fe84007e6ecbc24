"""Small models that nobody here wrote: random weights by transformers, a byte-level BPE trained by tokenizers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Two tests at once on two cores: more threads than cores make torch crawl.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

CORPUS = [
    "Classify this review: I loved this movie! Sentiment: Positive",
    "Classify this review: The plot was dull and the acting was worse. Sentiment: Negative",
    "A film that is warm, funny and true. Nobody should miss it.",
    "system user assistant 0123456789 é 日本 🎬 the of and a to in is that it was for on with as",
]


def small_tokenizer() -> Any:
    """A fast transformers tokenizer of some 400 pieces with ChatML's special tokens."""
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        CORPUS * 4, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = CHATML
    return fast


def random_llama(seed: int = 0, **overrides: Any) -> Any:
    """A random LlamaForCausalLM of transformers; its weights are large enough that tokens differ in probability."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": 97,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "attn_implementation": "eager",
        **overrides,
    }
    return LlamaForCausalLM(LlamaConfig(**settings)).eval()


@pytest.fixture(scope="session")
def make_llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make_llama_folder(**config)`: a folder saved by transformers, tokenizer and chat template included."""

    def make(**overrides: Any) -> Path:
        folder = tmp_path_factory.mktemp("llama")
        tokenizer = small_tokenizer()
        model = random_llama(vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, pad_token_id=0, **overrides)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def llama_folder(make_llama_folder: Callable[..., Path]) -> Path:
    """One small LLaMA folder for tests that only read it."""
    return make_llama_folder()
