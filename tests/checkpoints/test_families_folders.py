"""A folder of every family that transformers has: read, written, read by transformers with the same outputs; refused
when config and weights contradict each other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import small_tokenizer

import germinal
from germinal.checkpoints.cards import ModelCard
from germinal.checkpoints.checkpoint import Checkpoint
from germinal.checkpoints.hf_folder import write_folder
from germinal.errors import CheckpointError, UnsupportedError, VocabularyMismatchError
from germinal.models import families
from germinal.models.families import FAMILIES
from germinal.text.tokenizer import Tokenizer

IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_HEADED = {
    "hidden_size": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 48,
}
_GROUPED = {**_HEADED, "num_key_value_heads": 2}
_TWO_STACKS = {
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 48,
    "decoder_start_token_id": 2,
}
_T5 = {"d_model": 24, "d_kv": 5, "d_ff": 40, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
_DISTIL = {"dim": 24, "n_heads": 4, "n_layers": 2, "hidden_dim": 40, "max_position_embeddings": 48}
MODELS: dict[str, dict[str, Any]] = {
    "BertModel": _HEADED,
    "BertForMaskedLM": _HEADED,
    "BertForSequenceClassification": {**_HEADED, "num_labels": 3},
    "BertForTokenClassification": {**_HEADED, "num_labels": 5},
    "BertForQuestionAnswering": _HEADED,
    "RobertaModel": {**_HEADED, "max_position_embeddings": 50},
    "RobertaForMaskedLM": {**_HEADED, "max_position_embeddings": 50},
    "RobertaForSequenceClassification": {**_HEADED, "num_labels": 2},
    "DistilBertModel": _DISTIL,
    "DistilBertForMaskedLM": _DISTIL,
    "DistilBertForSequenceClassification": {**_DISTIL, "num_labels": 3},
    "BartForConditionalGeneration": _TWO_STACKS,
    "MarianMTModel": {**_TWO_STACKS, "scale_embedding": True},
    "T5ForConditionalGeneration": {**_T5, "feed_forward_proj": "gated-gelu"},
    "GPT2LMHeadModel": {"n_embd": 24, "n_head": 4, "n_layer": 2, "n_positions": 48},
    "BloomForCausalLM": {"hidden_size": 24, "n_head": 4, "n_layer": 2},
    "LlamaForCausalLM": _GROUPED,
    "MistralForCausalLM": {**_GROUPED, "sliding_window": 5},
    "Qwen2ForCausalLM": {**_GROUPED, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "Qwen3ForCausalLM": {**_GROUPED, "head_dim": 8, "tie_word_embeddings": True},
    "Gemma3ForCausalLM": {
        **_GROUPED,
        "head_dim": 8,
        "sliding_window": 5,
        "layer_types": ["full_attention", "sliding_attention"],
    },
}


def config_class(kind: str) -> Any:
    family = next(
        name
        for name in (
            "DistilBert",
            "Roberta",
            "Bert",
            "Bart",
            "Marian",
            "T5",
            "GPT2",
            "Bloom",
            "Llama",
            "Mistral",
            "Qwen2",
            "Qwen3",
            "Gemma3",
        )
        if kind.startswith(name)
    )
    return getattr(transformers, "Gemma3TextConfig" if family == "Gemma3" else f"{family}Config")


def make_folder(folder: Path, kind: str, sizes: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A random model of transformers with our small tokenizer."""
    torch.manual_seed(0)
    tokenizer = small_tokenizer()
    config = config_class(kind)(
        vocab_size=len(tokenizer), **{**IDS, **(MODELS[kind] if sizes is None else sizes), **changes}
    )
    model = getattr(transformers, kind)(config)
    for name, parameter in model.named_parameters():
        if "embed_positions" not in name:
            torch.nn.init.normal_(parameter, std=0.15)
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def outputs(folder: Path, kind: str) -> tuple[Any, dict[str, Any]]:
    """What transformers' model of a folder gives, and what it says of loading it."""
    model, report = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
    ids = torch.tensor([[5, 9, 44, 120, 7, 300], [8, 3, 200, 31, 2, 64]])
    inputs = {"input_ids": ids, "attention_mask": torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]])}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[:, :4]
    with torch.no_grad():
        return model.eval()(**inputs), report


OUTPUTS = ("logits", "last_hidden_state", "pooler_output", "start_logits", "end_logits")


def assert_same_outputs(found: Any, expected: Any, names: tuple[str, ...] = OUTPUTS) -> None:
    compared = 0
    for name in names:
        if getattr(expected, name, None) is not None:
            torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-6, rtol=1e-5)
            compared += 1
    assert compared


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_saved_is_what_transformers_loads(kind: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "theirs", kind)
    expected, _ = outputs(folder, kind)
    lm = germinal.load(folder)
    saved = lm.save(tmp_path / "ours")
    found, report = outputs(saved, kind)
    assert not report["missing_keys"] | report["unexpected_keys"] | set(report["mismatched_keys"])
    assert_same_outputs(found, expected)
    again = germinal.load(saved)
    assert again.config == lm.config
    assert again.hf_generation_config == lm.hf_generation_config
    assert again.fingerprint == lm.fingerprint
    assert json.loads((saved / "config.json").read_text())["architectures"] == [kind]


def test_every_family_that_transformers_has_is_here() -> None:
    assert {family.architecture for family in FAMILIES.values() if hasattr(transformers, family.architecture)} <= set(
        MODELS
    )


@pytest.mark.parametrize("kind", MODELS)
def test_a_config_that_contradicts_the_weights_is_told_by_tensor_and_shapes(kind: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, kind)
    published = json.loads((folder / "config.json").read_text())
    key = next(
        name
        for name in ("intermediate_size", "d_ff", "hidden_dim", "encoder_ffn_dim", "n_embd", "hidden_size")
        if name in published
    )
    edit_config(folder, **{key: published[key] + 4}, **({"decoder_ffn_dim": 44} if key == "encoder_ffn_dim" else {}))
    with pytest.raises(CheckpointError, match=r"of another shape: \S+ \[[\d, ]+\] where \[[\d, ]+\]") as caught:
        germinal.load(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("kind", MODELS)
def test_missing_and_extra_tensors_are_listed(kind: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, kind)
    names = sorted(name for name in load_file(folder / "model.safetensors") if name.endswith("weight"))
    lost = next(name for name in names if "layer" in name or "block" in name or ".h." in name)

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["stranger.weight"] = tensors.pop(lost)

    edit_weights(folder, spoil)
    with pytest.raises(CheckpointError) as caught:
        germinal.load(folder)
    missing, _, extra = str(caught.value).partition("; not part of the model: ")
    assert missing.rpartition("missing: ")[2].endswith(lost)
    assert extra.startswith("stranger.weight.")


@pytest.mark.parametrize("kind", ["BertForMaskedLM", "T5ForConditionalGeneration", "GPT2LMHeadModel"])
def test_a_tokenizer_larger_than_the_embedding_is_refused(kind: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "large", kind)
    small = tmp_path / "small"
    shutil.copytree(folder, small)

    def cut(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if tensor.shape[0] == len(small_tokenizer()):
                tensors[name] = tensor[:310].clone()

    edit_weights(small, cut)
    edit_config(small, vocab_size=310)
    with pytest.raises(VocabularyMismatchError, match="no embedding for"):
        germinal.load(small)


@pytest.mark.parametrize(("model_type", "hint"), [("brt", "bert"), ("robertta", "roberta"), ("gpt3", "gpt2")])
def test_an_unknown_model_type_says_what_is_near(tmp_path: Path, model_type: str, hint: str) -> None:
    folder = make_folder(tmp_path, "BertModel")
    edit_config(folder, model_type=model_type)
    with pytest.raises(UnsupportedError, match=f"Did you mean '{hint}'"):
        germinal.load(folder)


def test_the_decoder_starts_as_the_class_does_where_no_file_says(tmp_path: Path) -> None:
    """Not with the token that texts start with, which config.json names."""
    folder = make_folder(tmp_path, "BartForConditionalGeneration")
    published = json.loads((folder / "config.json").read_text())
    del published["decoder_start_token_id"]
    (folder / "config.json").write_text(json.dumps(published))
    (folder / "generation_config.json").unlink()
    start = transformers.AutoConfig.from_pretrained(folder).decoder_start_token_id
    assert germinal.load(folder).decoder_start_id == start != published["bos_token_id"]


def make_t5(folder: Path, *, scaled: bool, own_head: bool) -> Path:
    """As transformers 5 writes it: `tie_word_embeddings` true whatever it is, the scaling in a key of its own."""
    kind = "T5ForConditionalGeneration"
    make_folder(folder, kind, tie_word_embeddings=scaled)
    published = json.loads((folder / "config.json").read_text())
    assert (published["tie_word_embeddings"], published["scale_decoder_outputs"]) == (True, scaled)
    if own_head:
        edit_weights(folder, lambda t: t.update({"lm_head.weight": torch.randn_like(t["shared.weight"])}))
    return folder


@pytest.mark.parametrize("own_head", [True, False], ids=["own head", "tied"])
@pytest.mark.parametrize("scaled", [True, False], ids=["scaled", "plain"])
def test_the_weights_say_whether_an_output_matrix_is_tied(tmp_path: Path, scaled: bool, own_head: bool) -> None:
    kind = "T5ForConditionalGeneration"
    folder = make_t5(tmp_path / "theirs", scaled=scaled, own_head=own_head)
    expected, _ = outputs(folder, kind)
    lm = germinal.load(folder)
    assert lm.config.tie_embeddings is not own_head
    assert lm.config.logit_scale == (24**-0.5 if scaled else 1.0)
    ids = torch.tensor([[5, 9, 44, 120, 7, 300], [8, 3, 200, 31, 2, 64]])
    mask = torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        logits = lm.network.logits(lm.network(ids, mask, decoder_input_ids=ids[:, :4]))
    torch.testing.assert_close(logits, expected.logits, atol=1e-4, rtol=1e-4)
    found, report = outputs(lm.save(tmp_path / "ours"), kind)
    assert not report["unexpected_keys"]
    assert_same_outputs(found, expected)


def test_an_older_config_that_says_untied_is_believed(tmp_path: Path) -> None:
    folder = make_t5(tmp_path, scaled=False, own_head=True)
    published = json.loads((folder / "config.json").read_text())
    del published["scale_decoder_outputs"]
    (folder / "config.json").write_text(json.dumps({**published, "tie_word_embeddings": False}))
    lm = germinal.load(folder)
    assert (lm.config.tie_embeddings, lm.config.logit_scale) == (False, 1.0)


SIZES = {"hidden_size": 16, "intermediate_size": 64, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 32}
UNSAID: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"block": "parallel"}),
    ("llama", {"attention_scale": 0.3}),
    ("mistral", {"attention_bias": True}),
    ("qwen2", {"norm_placement": "sandwich"}),
    ("gpt2", {"num_kv_heads": 2}),
    ("gpt2", {"window": 4}),
    ("bloom", {"num_kv_heads": 2}),
    ("bloom", {"intermediate_size": 24}),
    ("bert", {"head": "lm"}),
    ("bert", {"gated": True}),
    ("t5", {"num_kv_heads": 2}),
    ("bart", {"norm_eps": 1e-3}),
]


@pytest.mark.parametrize(("family", "changes"), UNSAID, ids=lambda value: str(value))
def test_what_config_json_cannot_say_is_not_written(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """It would be read back as another model, or not at all."""
    small_tokenizer().save_pretrained(tmp_path / "tokenizer")
    tokenizer = Tokenizer.from_folder(tmp_path / "tokenizer")
    network = families.build(family, vocab_size=tokenizer.vocab_size, **{**SIZES, **changes})
    checkpoint = Checkpoint(
        config=network.config,
        family=FAMILIES[family],
        state_dict=network.state_dict(),
        tokenizer=tokenizer,
        card=ModelCard(name="strange"),
    )
    with pytest.raises(UnsupportedError) as caught:
        write_folder(tmp_path / "out", checkpoint)
    assert caught.value.where == f"config.{next(iter(changes))}"
    assert not (tmp_path / "out").exists()
