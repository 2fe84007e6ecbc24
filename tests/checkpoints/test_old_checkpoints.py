"""Weights as older versions of the published code wrote them: read as transformers reads them, and written anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from test_families_folders import MODELS, assert_same_outputs, edit_config, edit_weights, make_folder, outputs

import germinal
from germinal.errors import CheckpointError

Weights = dict[str, torch.Tensor]


def assert_read_as_transformers_does(folder: Path, kind: str) -> None:
    """Read, write, and compare transformers' outputs of what was written with those of what was read."""
    expected, _ = outputs(folder, kind)
    saved = germinal.load(folder, precision="float32").save(folder.with_name("saved"))
    found, report = outputs(saved, kind)
    assert not report["mismatched_keys"]
    assert_same_outputs(found, expected)


def prefix_of(kind: str) -> str:
    return f"{getattr(transformers, kind).base_model_prefix}."


def family_of(kind: str) -> str:
    return next(name for name in sorted(BUFFERS, key=len, reverse=True) if kind.startswith(name))


def gamma_and_beta(weights: Weights, kind: str) -> Weights:
    renamed = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    return {next((n.replace(a, b) for a, b in renamed.items() if a in n), n): t for n, t in weights.items()}


def other_prefix(weights: Weights, kind: str) -> Weights:
    """Without the prefix of the model within its class, or, of the bare model, with it."""
    prefix = prefix_of(kind)
    if any(name.startswith(prefix) for name in weights):
        return {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return {prefix + name: tensor for name, tensor in weights.items()} if kind.endswith("Model") else weights


BUFFERS: dict[str, list[str]] = {
    "Bert": ["embeddings.position_ids", "embeddings.token_type_ids"],
    "Roberta": ["embeddings.position_ids", "embeddings.token_type_ids"],
    "DistilBert": ["embeddings.position_ids"],
    "Bart": ["encoder.version", "decoder.version"],
    "Marian": ["encoder.version", "decoder.version"],
    "T5": ["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"],
    "Bloom": [],
    "GPT2": ["h.0.attn.bias", "h.1.attn.masked_bias"],
    "Llama": ["layers.0.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"],
    "Mistral": ["layers.1.self_attn.rotary_emb.inv_freq"],
    "Qwen2": ["layers.0.self_attn.rotary_emb.inv_freq"],
    "Qwen3": ["layers.0.self_attn.rotary_emb.inv_freq"],
    "Gemma3": ["layers.0.self_attn.rotary_emb.inv_freq"],
}


def old_buffers(weights: Weights, kind: str) -> Weights:
    names = BUFFERS[family_of(kind)]
    prefix = prefix_of(kind) if any(name.startswith(prefix_of(kind)) for name in weights) else ""
    return {**weights, **{prefix + name: torch.arange(3) for name in names if prefix + name not in weights}}


CHANGES: dict[str, Callable[[Weights, str], Weights]] = {
    "gamma and beta": gamma_and_beta,
    "the other prefix": other_prefix,
    "buffers": old_buffers,
    "buffers and the other prefix": lambda weights, kind: old_buffers(other_prefix(weights, kind), kind),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", [*MODELS])
def test_names_of_old_checkpoints(kind: str, change: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "theirs", kind)
    path = folder / "model.safetensors"
    before = load_file(path)
    after = CHANGES[change]({name: tensor.clone() for name, tensor in before.items()}, kind)
    if after.keys() == before.keys():
        pytest.skip("the family has no such names")
    save_file(after, path, metadata={"format": "pt"})
    assert_read_as_transformers_does(folder, kind)


HEADS = [
    (bare, other)
    for bare, others in {
        "BertModel": ["BertForMaskedLM", "BertForPreTraining", "BertForSequenceClassification"],
        "BertForTokenClassification": ["BertForSequenceClassification"],
        "RobertaModel": ["RobertaForMaskedLM", "RobertaForSequenceClassification", "RobertaForQuestionAnswering"],
        "DistilBertModel": ["DistilBertForMaskedLM", "DistilBertForSequenceClassification"],
        "BertForMaskedLM": ["BertForPreTraining"],
        "BartModel": ["BartForConditionalGeneration", "BartForSequenceClassification"],
        "GPT2Model": ["GPT2LMHeadModel", "GPT2ForSequenceClassification", "GPT2ForTokenClassification"],
        "BloomModel": ["BloomForCausalLM", "BloomForTokenClassification"],
        "LlamaModel": ["LlamaForCausalLM", "LlamaForSequenceClassification"],
        "MistralModel": ["MistralForCausalLM"],
        "Qwen3Model": ["Qwen3ForSequenceClassification"],
        "Gemma3TextModel": ["Gemma3ForCausalLM"],
        "T5EncoderModel": ["T5ForConditionalGeneration"],
    }.items()
    for other in others
]


@pytest.mark.parametrize(("named", "stored"), HEADS)
def test_a_head_beside_a_class_that_has_none_or_another(named: str, stored: str, tmp_path: Path) -> None:
    sizes = next(sizes for kind, sizes in MODELS.items() if stored.startswith(family_of(kind)))
    folder = make_folder(tmp_path / "theirs", stored, sizes)
    edit_config(folder, architectures=[named])
    expected, _ = outputs(folder, named)
    saved = germinal.load(folder, precision="float32").save(tmp_path / "saved")
    found, _ = outputs(saved, named)  # transformers draws the pooler that is in neither
    assert_same_outputs(found, expected, names=("logits", "last_hidden_state"))


@pytest.mark.parametrize("kind", [*MODELS])
def test_without_a_class_the_weights_tell_it(kind: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "theirs", kind)
    raw = json.loads((folder / "config.json").read_text())
    raw.pop("architectures")
    (folder / "config.json").write_text(json.dumps(raw))
    if kind in ("BertForSequenceClassification", "DistilBertForSequenceClassification"):
        # A model that classifies tokens has such a layer too.
        with pytest.raises(CheckpointError, match=r"BertForSequenceClassification or \w*BertForTokenClass"):
            germinal.load(folder)
        return
    saved = germinal.load(folder, precision="float32").save(tmp_path / "saved")
    assert json.loads((saved / "config.json").read_text())["architectures"] == [kind]
    assert_read_as_transformers_does(folder, kind)


def test_a_stored_table_of_sinusoids_must_be_the_one_that_is_computed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "theirs", "MarianMTModel")
    tables = transformers.MarianMTModel.from_pretrained(folder).state_dict()
    names = [f"model.{stack}.embed_positions.weight" for stack in ("encoder", "decoder")]
    edit_weights(folder, lambda t: t.update({name: tables[name].clone() for name in names}))
    assert_read_as_transformers_does(folder, "MarianMTModel")
    edit_weights(folder, lambda t: t[names[1]].mul_(2))
    with pytest.raises(CheckpointError, match=rf"'{names[1]}' is not the table"):
        germinal.load(folder)


def test_berts_own_checkpoint_fills_its_mask(tmp_path: Path) -> None:
    """The names of the first one published: gamma and beta, the pooler and both heads of pre-training, in a pickle."""
    sizes = MODELS["BertForMaskedLM"]
    folder = make_folder(tmp_path / "bert-base-uncased", "BertForPreTraining", sizes)
    weights = load_file(folder / "model.safetensors")
    weights |= {"cls.predictions.decoder.weight": weights["bert.embeddings.word_embeddings.weight"]}
    torch.save(gamma_and_beta(weights, "BertForPreTraining"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    edit_config(folder, architectures=["BertForMaskedLM"])
    assert_read_as_transformers_does(folder, "BertForMaskedLM")
