"""Small models, tokenizers and adapters, in every form in which they are published.

Nothing here is drawn at random by a library: the number of a load names the same damaged bytes everywhere.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import torch
import transformers
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_encoders import write_wordpiece
from tiny_models import CHATML
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

import germinal

SENTENCEPIECE = Path(__file__).parents[1] / "text" / "sentencepiece"
SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
LABELS = {0: "bad", 1: "good"}


def write_byte_level(folder: Path) -> None:
    """A byte-level tokenizer with three merges and ChatML's special tokens."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), "fi", "lm", "film"]
    bpe = Tokenizer(models.BPE({piece: id for id, piece in enumerate(pieces)}, [("f", "i"), ("l", "m"), ("fi", "lm")]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = CHATML
    fast.save_pretrained(folder)


def draw(model: Any) -> Any:
    """The model with weights that are the same in every version of transformers."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def llama(vocab_size: int = 262) -> Any:
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return draw(
        transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=vocab_size, num_key_value_heads=1, tie_word_embeddings=True, **ids, **SIZES
            )
        )
    )


def make_llama(folder: Path) -> None:
    llama().save_pretrained(folder)
    write_byte_level(folder)


def make_bare_files(folder: Path) -> None:
    """vocab.json and merges.txt, and chat templates by name."""
    make_llama(folder)
    state = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "vocab.json").write_text(json.dumps(state["vocab"]), encoding="utf-8")
    merges = "".join(f"{left} {right}\n" for left, right in state["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")
    (folder / "tokenizer.json").unlink()
    tokens = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    config = {"tokenizer_class": "GPT2Tokenizer", "unk_token": "<|endoftext|>", **tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(CHATML)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# A decoder\n")


def make_sentencepiece_bpe(folder: Path) -> None:
    llama(vocab_size=700).save_pretrained(folder)
    shutil.copy(SENTENCEPIECE / "bpe_bytes.model", folder / "tokenizer.model")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))


def make_bert(folder: Path) -> None:
    """As it was saved years ago: a pickle of tensors, vocab.txt, no tokenizer.json."""
    write_wordpiece(folder)
    words = len((folder / "vocab.txt").read_text(encoding="utf-8").splitlines())
    names = {name: id for id, name in LABELS.items()}
    config = transformers.BertConfig(vocab_size=words, id2label=LABELS, label2id=names, **SIZES)
    model = draw(transformers.BertForSequenceClassification(config))
    model.config.architectures = ["BertForSequenceClassification"]
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    tokenizer = {"do_lower_case": True, "model_max_length": 64, "tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "added_tokens.json").write_text("{}")
    (folder / "special_tokens_map.json").write_text(json.dumps({"mask_token": "[MASK]", "pad_token": "[PAD]"}))


def make_t5(folder: Path) -> None:
    """Two shards with an index, and a SentencePiece file."""
    shutil.copy(SENTENCEPIECE / "unigram.model", folder / "spiece.model")
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    config = transformers.T5Config(vocab_size=512, decoder_start_token_id=0, **sizes)
    draw(transformers.T5ForConditionalGeneration(config)).save_pretrained(folder, max_shard_size="30KB")
    (folder / "tokenizer_config.json").write_text(json.dumps({"extra_ids": 10, "tokenizer_class": "T5Tokenizer"}))


def make_vectors(folder: Path) -> None:
    """A network with a pooling, a dense layer and a normalisation."""
    make_bert(folder)
    shutil.rmtree(folder / "1_Pooling", ignore_errors=True)
    words = json.loads((folder / "config.json").read_text())["vocab_size"]
    draw(transformers.BertModel(transformers.BertConfig(vocab_size=words, **SIZES))).save_pretrained(folder)
    (folder / "pytorch_model.bin").unlink()
    kinds = ["Transformer", "Pooling", "Dense", "Normalize"]
    paths = ["", *(f"{number}_{kind}" for number, kind in enumerate(kinds[1:], start=1))]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    files: dict[str, Any] = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True},
        "2_Dense/config.json": {"in_features": 16, "out_features": 4, "bias": True},
        "sentence_bert_config.json": {"max_seq_length": 32, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {"query": "film: "}, "default_prompt_name": "query"},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    tensors = {"linear.weight": torch.ones(4, 16), "linear.bias": torch.zeros(4)}
    save_file(tensors, folder / "2_Dense" / "model.safetensors")


def make_gguf(folder: Path) -> None:
    """The decoder as a GGUF file."""
    make_llama(folder / "base")
    germinal.load(folder / "base", precision="float32").save(folder / "model.gguf")
    shutil.rmtree(folder / "base")


def make_quantised(folder: Path) -> None:
    """A GGUF file whose tables and matrices are quantised, each in another way."""
    make_gguf(folder / "plain")
    source = gguf.GGUFReader(folder / "plain" / "model.gguf")
    kinds = [gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.F16]
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    for field in source.fields.values():
        if field.name != "general.architecture" and not field.name.startswith("GGUF."):
            item = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=item)
    for number, tensor in enumerate(source.tensors):
        kind = kinds[number % 3] if tensor.data.ndim == 2 and tensor.data.shape[-1] % 32 == 0 else None
        data = tensor.data if kind is None else gguf.quants.quantize(tensor.data, kind)
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    shutil.rmtree(folder / "plain")


def make_adapter(folder: Path) -> None:
    """A PEFT folder beside its base."""
    make_llama(folder / "base")
    targets = ["q_proj", "v_proj", "down_proj"]
    adapted = get_peft_model(llama(), LoraConfig(r=2, lora_alpha=4, target_modules=targets, task_type="CAUSAL_LM"))
    draw(adapted).save_pretrained(folder / "adapter")
    tensors = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert len(tensors) == 12


def make_other_adapters(folder: Path) -> None:
    """Of the kinds with more tensors or other ones, and a pickle as torch wrote it before 1.6."""
    make_llama(folder / "base")
    chosen = {"r": 2, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    kinds = {
        "dora": LoraConfig(use_dora=True, rank_pattern={"v_proj": 3}, trainable_token_indices=[3, 5], **chosen),
        "saved": LoraConfig(modules_to_save=["lm_head"], **chosen),
        "prompt": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    }
    for name, config in kinds.items():
        draw(get_peft_model(llama(), config)).save_pretrained(folder / name)
    weights = folder / "dora" / "adapter_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"), _use_new_zipfile_serialization=False)
    weights.unlink()
