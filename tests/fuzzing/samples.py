"""Small valid files of every kind that germinal reads, and what a user does with each.

Nothing here is drawn at random by a library: the number of a load names the same damaged bytes everywhere.
"""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_encoders import write_wordpiece
from tiny_models import CHATML
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

import germinal
from germinal.predictors.loading import load_predictor
from germinal.project.board.report import collect, write_report

SENTENCEPIECE = Path(__file__).parents[1] / "text" / "sentencepiece"
SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
CHAT = [{"role": "user", "content": "a warm film"}]
TEXTS = ["a warm, funny film", "日本"]
LABELS = {0: "bad", 1: "good"}
TOML = """\
seed = 0

[scope]
use_case = "Say whether a film review is positive or negative"
data = "reviews.csv"
input = "text"
target = "label"
labels = { pos = "Positive", neg = "Negative" }
split = { dev = 12, test = 8 }
metrics = ["accuracy", "f1_macro"]
success = { accuracy = 0.5 }

[select]
baselines = ["majority", "tfidf"]
"""


@dataclass(frozen=True)
class Sample:
    """A folder with files of one kind.

    Attributes:
        name: Of the folder.
        make: Writes its files.
        use: What a user does with the folder.
        damaged: Which of its files are damaged; all if it is empty.
        weight: How often it is drawn.
    """

    name: str
    make: Callable[[Path], None]
    use: Callable[[Path], None]
    damaged: tuple[str, ...] = ()
    weight: float = 1.0


def write_all(folder: Path) -> None:
    """Write the samples into a folder, which the first of several processes does for all."""
    for sample in SAMPLES:
        (folder / sample.name).mkdir(parents=True)
        sample.make(folder / sample.name)


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


def llama() -> Any:
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return draw(
        transformers.LlamaForCausalLM(
            transformers.LlamaConfig(vocab_size=262, num_key_value_heads=1, tie_word_embeddings=True, **ids, **SIZES)
        )
    )


def make_llama(folder: Path) -> None:
    llama().save_pretrained(folder)
    write_byte_level(folder)


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


def make_predictor(folder: Path) -> None:
    """A project that was run, and what its winner saves."""
    make_project(folder)
    germinal.Project(folder).predictor("tfidf").save(folder / "predictor")


def make_project(folder: Path) -> None:
    """A project of baselines, after its run."""
    good, bad = ["warm", "funny", "true", "fine"], ["dull", "cold", "weak", "poor"]
    with (folder / "reviews.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        for number in range(40):
            words, label = (good, "pos") if number % 2 else (bad, "neg")
            table.writerow([f"{words[number % 4]} {words[number // 4 % 4]} film number {number}", label])
    (folder / "germinal.toml").write_text(TOML)
    project = germinal.Project(folder)
    project.run()
    project.ledger.close()
    ledger = folder / ".germinal" / "ledger.sqlite"
    with sqlite3.connect(ledger) as database:
        database.execute("PRAGMA journal_mode = DELETE")  # one file, so that damage of it is what is read


def write_text(path: Path, adapter: Path | None = None) -> None:
    lm = germinal.load(path, adapter=adapter)
    lm.generate("a warm film", max_new_tokens=2)
    lm.score("a warm", [" film"])
    lm.tokenizer.decode(lm.tokenizer.encode(TEXTS[1]))
    if lm.tokenizer.chat_template is not None:
        lm.generate(CHAT, max_new_tokens=2)


def use_gguf(folder: Path) -> None:
    write_text(folder / "model.gguf")


def use_adapter(folder: Path) -> None:
    write_text(folder / "base", folder / "adapter")


def classify(folder: Path) -> None:
    germinal.load(folder).classify(TEXTS)


def encode(folder: Path) -> None:
    germinal.load(folder).encode(TEXTS)


def predict(folder: Path) -> None:
    load_predictor(folder / "predictor").predict(TEXTS)


def look_at_project(folder: Path) -> None:
    project = germinal.Project(folder)
    project.leaderboard()
    collect(project.ledger)
    project.winner().predict(TEXTS)
    project.plan()


def write_page(folder: Path) -> None:
    write_report(germinal.Project(folder).ledger, folder / "report.html")


SAMPLES = (
    Sample("llama", make_llama, write_text),
    Sample("bert", make_bert, classify),
    Sample("t5", make_t5, write_text),
    Sample("vectors", make_vectors, encode),
    Sample("gguf", make_gguf, use_gguf),
    Sample("quantised", make_quantised, use_gguf),
    Sample("adapter", make_adapter, use_adapter, ("adapter/",)),
    Sample("predictor", make_predictor, predict, ("predictor/",)),
    Sample("project", make_project, look_at_project, weight=0.4),
    Sample("page", make_project, write_page, (".germinal/ledger",), weight=0.05),
)
