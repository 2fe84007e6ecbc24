"""Tensors that are one in the model: stored once under any of their names, several times, or with different values."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_families_folders import assert_same_outputs, edit_config, edit_weights, make_folder, outputs

import germinal
from germinal.errors import CheckpointError

_OF_TWO_STACKS = (
    *("model.shared.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"),
    "lm_head.weight",
)
EMBEDDINGS: dict[str, tuple[str, ...]] = {
    "BertForMaskedLM": ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
    "RobertaForMaskedLM": ("roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
    "DistilBertForMaskedLM": ("distilbert.embeddings.word_embeddings.weight", "vocab_projector.weight"),
    **dict.fromkeys(("BartForConditionalGeneration", "MarianMTModel"), _OF_TWO_STACKS),
    "T5ForConditionalGeneration": tuple(name.removeprefix("model.") for name in _OF_TWO_STACKS),
    "GPT2LMHeadModel": ("transformer.wte.weight", "lm_head.weight"),
    "BloomForCausalLM": ("transformer.word_embeddings.weight", "lm_head.weight"),
    "LlamaForCausalLM": ("model.embed_tokens.weight", "lm_head.weight"),
    "Gemma3ForCausalLM": ("model.embed_tokens.weight", "lm_head.weight"),
}
BIASES = {
    "BertForMaskedLM": ("cls.predictions.bias", "cls.predictions.decoder.bias"),
    "RobertaForMaskedLM": ("lm_head.bias", "lm_head.decoder.bias"),
}
TIED = [(kind, names) for table in (EMBEDDINGS, BIASES) for kind, names in table.items()]


def assert_read_as_transformers_does(folder: Path, kind: str) -> None:
    expected, _ = outputs(folder, kind)
    saved = germinal.load(folder, precision="float32").save(folder.with_name("saved"))
    assert_same_outputs(outputs(saved, kind)[0], expected)


@pytest.mark.parametrize(("kind", "names"), TIED)
def test_one_of_them_stored_is_enough(kind: str, names: tuple[str, ...], tmp_path: Path) -> None:
    for place, name in enumerate(names[1:]):
        folder = make_folder(tmp_path / str(place) / "theirs", kind, tie_word_embeddings=True)
        edit_weights(folder, lambda t, name=name: t.update({name: t.pop(names[0])}))  # type: ignore[misc]
        assert_read_as_transformers_does(folder, kind)


@pytest.mark.parametrize(("kind", "names"), TIED)
def test_all_of_them_stored_must_be_equal(kind: str, names: tuple[str, ...], tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "theirs", kind, tie_word_embeddings=True)
    edit_weights(folder, lambda t: t.update({name: t[names[0]].clone() for name in names}))
    assert_read_as_transformers_does(folder, kind)
    edit_weights(folder, lambda t: t[names[-1]].add_(1))
    if kind.startswith("T5"):  # whose config.json says that they are tied where they are not, in all of its versions
        assert_read_as_transformers_does(folder, kind)
        return
    with pytest.raises(CheckpointError, match=f"'{names[0]}' and '{names[-1]}' are one tensor"):
        germinal.load(folder)


@pytest.mark.parametrize("kind", sorted(EMBEDDINGS.keys() - {"T5ForConditionalGeneration"}))
def test_an_untied_matrix_is_read_and_written_as_such(kind: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "theirs", kind, tie_word_embeddings=False)
    shared, *others = EMBEDDINGS[kind]
    edit_weights(folder, lambda t: t.update({name: t[shared].clone() for name in others[:-1] if name in t}))
    weights = load_file(folder / "model.safetensors")
    assert not torch.equal(weights[shared], weights[others[-1]])
    assert_read_as_transformers_does(folder, kind)
    edit_weights(folder, lambda t: t.pop(others[-1]))
    with pytest.raises(CheckpointError, match=f"missing: {others[-1]}"):
        germinal.load(folder)


def test_stacks_with_tables_of_their_own_are_refused_by_name(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "BartForConditionalGeneration", tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=r"'model.encoder.embed_tokens.weight' and .* not supported"):
        germinal.load(folder)


def test_the_matrix_of_a_head_that_a_class_lacks_may_differ(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "theirs", "BertForMaskedLM")
    edit_config(folder, architectures=["BertModel"])
    edit_weights(folder, lambda t: t.update({"cls.predictions.decoder.weight": torch.ones(3, 3)}))
    expected, _ = outputs(folder, "BertModel")
    found, _ = outputs(germinal.load(folder, precision="float32").save(tmp_path / "saved"), "BertModel")
    assert_same_outputs(found, expected, names=("last_hidden_state",))
