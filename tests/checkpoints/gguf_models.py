"""Small random models of transformers with real kinds of tokenizers, one for each architecture that GGUF has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_encoders import write_wordpiece
from tiny_models import CHATML, CORPUS
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SENTENCEPIECE = Path(__file__).parents[1] / "text" / "sentencepiece"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
TEXTS = [
    "A film that is warm, funny and true.",
    "Classify this review: The plot was dull",
    "it's  we'll  1234 56 (7890)\n\n\t x",
    "naïve 日本 🎬",
]

_HEADED = {
    "hidden_size": 48,
    "num_attention_heads": 6,
    "num_hidden_layers": 3,
    "intermediate_size": 80,
    "max_position_embeddings": 96,
}
_GROUPED = {**_HEADED, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
_SCALED = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
_T5 = {"d_model": 48, "d_kv": 10, "d_ff": 80, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4}
DECODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "smollm", {**_GROUPED, "tie_word_embeddings": True}),
    "llama-2": ("LlamaForCausalLM", "sentencepiece", {**_GROUPED, "num_key_value_heads": 6, "head_dim": 12}),
    "llama-3": (
        "LlamaForCausalLM",
        "llama-bpe",
        {**_GROUPED, "rope_parameters": {**_SCALED, "rope_theta": 5e5, "original_max_position_embeddings": 8192}},
    ),
    "llama-linear": (
        "LlamaForCausalLM",
        "gpt-2",
        {
            **_GROUPED,
            "attention_bias": True,
            "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
        },
    ),
    "llama-yarn": (
        "LlamaForCausalLM",
        "gpt-2",
        {
            **_GROUPED,
            "rope_parameters": {
                "rope_type": "yarn",
                "factor": 3.0,
                "original_max_position_embeddings": 32,
                "rope_theta": 1e4,
            },
        },
    ),
    "mistral": ("MistralForCausalLM", "sentencepiece", {**_GROUPED, "sliding_window": None}),
    "qwen2": ("Qwen2ForCausalLM", "qwen2", {**_GROUPED, "use_sliding_window": False}),
    "qwen3": ("Qwen3ForCausalLM", "qwen2", {**_GROUPED, "head_dim": 12, "tie_word_embeddings": True}),
    "gemma3": (
        "Gemma3ForCausalLM",
        "sentencepiece",
        {
            **_GROUPED,
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "gpt2": ("GPT2LMHeadModel", "gpt-2", {"n_embd": 48, "n_head": 6, "n_layer": 3, "n_positions": 96, "n_inner": 80}),
    "bloom": ("BloomForCausalLM", "bloom", {"hidden_size": 48, "n_head": 6, "n_layer": 3}),
}
OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "t5-1.0": ("T5ForConditionalGeneration", "unigram", {**_T5, "feed_forward_proj": "relu"}),
    "t5-1.1": (
        "T5ForConditionalGeneration",
        "unigram",
        {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "t5-1.1-tied": (
        "T5ForConditionalGeneration",
        "unigram",
        {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "bert": ("BertModel", "wordpiece", _HEADED),
    "bert-classifier": ("BertForSequenceClassification", "wordpiece", {**_HEADED, "num_labels": 3}),
    "distilbert": (
        "DistilBertModel",
        "wordpiece",
        {"dim": 48, "n_heads": 6, "n_layers": 3, "hidden_dim": 80, "max_position_embeddings": 96},
    ),
}
ALL = {**DECODERS, **OTHERS}


def published(pre: str) -> Tokenizer:
    """A byte-level tokenizer as the models of this kind publish it, trained on a small text."""
    by_regex = pre_tokenizers.ByteLevel(add_prefix_space=False)

    def split(pattern: str) -> pre_tokenizers.PreTokenizer:
        spelt = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), spelt])

    ways: dict[str, pre_tokenizers.PreTokenizer] = {
        "gpt-2": by_regex,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), by_regex]),
        "llama-bpe": split(LLAMA3),
        "qwen2": split(QWEN2),
        "bloom": split(BLOOM),
    }
    backend = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    backend.pre_tokenizer = ways[pre]
    backend.decoder = decoders.ByteLevel()
    texts = [*CORPUS, "it's  we'll  1234 56  7890 12 é é\n\n\t x  "] * 4
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=450, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    if pre == "llama-bpe":
        backend.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
        )
    return backend


def save_model(folder: Path, name: str) -> Path:
    """A folder of the model called `name`, with more rows in its embedding than its tokenizer has tokens."""
    kind, tokenizer, sizes = ALL[name]
    folder.mkdir(parents=True, exist_ok=True)
    _save_tokenizer(folder, tokenizer)
    torch.manual_seed(1)
    roles = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if tokenizer == "unigram":
        roles = {"eos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 0}
    family = next(kind.removesuffix(ending) for ending in _ENDINGS if kind.endswith(ending))
    config_class = {"Gemma3": "Gemma3TextConfig"}.get(family, f"{family}Config")
    config = getattr(transformers, config_class)(vocab_size=720, **roles, **sizes)
    model = getattr(transformers, kind)(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.tie_weights()
    model.save_pretrained(folder)
    if name == "t5-1.1":  # transformers 5 ties every T5, and reads those that are not
        file = folder / "model.safetensors"
        save_file({**load_file(file), "lm_head.weight": torch.randn(720, 48)}, file, {"format": "pt"})
    return folder


_ENDINGS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForSequenceClassification", "Model")


def _save_tokenizer(folder: Path, kind: str) -> None:
    if kind == "wordpiece":
        write_wordpiece(folder)
    elif kind == "unigram":
        _copy_without_user_defined(SENTENCEPIECE / "unigram.model", folder / "spiece.model")
    elif kind == "sentencepiece":
        _copy_without_user_defined(SENTENCEPIECE / "bpe_bytes.model", folder / "tokenizer.model")
        (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    else:
        fast = transformers.PreTrainedTokenizerFast(
            tokenizer_object=published(kind), bos_token=SPECIAL[1], eos_token=SPECIAL[2], pad_token=SPECIAL[0]
        )
        fast.chat_template = CHATML
        fast.save_pretrained(folder)


def _copy_without_user_defined(source: Path, target: Path) -> None:
    """A SentencePiece model whose one user-defined piece, which GGUF cannot say exactly, is marked as unused."""
    data, changed = re.subn(rb"(<sep>\x15.{4}\x18)\x04", b"\\1\x05", source.read_bytes(), flags=re.DOTALL)
    assert changed == 1
    target.write_bytes(data)
