"""Small models that nobody here wrote: random weights by transformers, a byte-level BPE trained by tokenizers."""

from __future__ import annotations

from typing import Any

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


def ours_from(model: Any) -> Any:
    """Our network with copies of the weights of a transformers model, by the family's own tables."""
    from germinal.checkpoints.assembly import assemble
    from germinal.checkpoints.stored import Stored
    from germinal.models import families
    from germinal.models.transformer import Transformer

    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    family = families.for_hf(config)
    ours = family.config_from_hf(config)
    stored = {
        name: Stored(tuple(tensor.shape), "float32", tensor.clone().to) for name, tensor in model.state_dict().items()
    }
    network = Transformer(ours, device="meta")
    network.load_state_dict(assemble(stored, family.hf_rules(ours), ours, torch.float32, "test"), assign=True)
    return network.eval()
