"""Every configuration of the tests as a folder: what transformers saved is read, written, and read by transformers.

The outputs of the two folders are the same, and so is our config of both.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from test_families import CONFIGS, expected_answer, peer
from test_llama import SHAPES
from tiny_models import random_llama

import germinal

UNUSED = {"cls.predictions.bias", "lm_head.bias"}
"""Of an untied head, whose matrix has a bias of its own: transformers keeps the head's too, and does not use it."""

PEERS = [
    pytest.param(family, ending, partial(peer, family, ending, config), id=f"{family}{ending}-{number}")
    for family, models in CONFIGS.items()
    for number, (ending, config) in enumerate(models)
]
PEERS += [
    pytest.param("Llama", "ForCausalLM", partial(random_llama, vocab_size=61, **shape), id=f"Llama {name}")
    for name, shape in SHAPES.items()
]


def save(folder: Path, model: Any) -> None:
    """The model as transformers saves it, with a tokenizer of as many words."""
    words = {word: id for id, word in enumerate(["<pad>", "<s>", "</s>", *(f"w{number}" for number in range(3, 61))])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w3"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **named).save_pretrained(folder)
    model.save_pretrained(folder)


@torch.no_grad()
def outputs(family: str, ending: str, folder: Path) -> tuple[torch.Tensor, set[str]]:
    """What transformers' model of a folder gives, and the names of the weights that it missed or did not know."""
    model, report = getattr(transformers, family + ending).from_pretrained(folder, output_loading_info=True)
    ids = torch.randint(3, 61, (2, 20), generator=torch.Generator().manual_seed(2))
    inputs = {"input_ids": ids}
    if model.config.is_encoder_decoder and ending != "EncoderModel":
        inputs["decoder_input_ids"] = ids[:, 4:11]
        if ending == "ForSequenceClassification":
            ids[:, -1] = model.config.eos_token_id
            inputs["decoder_input_ids"] = torch.cat((torch.full((2, 1), model.config.decoder_start_token_id), ids), 1)
            inputs["decoder_input_ids"] = inputs["decoder_input_ids"][:, :-1]
    found = expected_answer(family, ending, model.eval()(**inputs))
    return found, {*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]}


@pytest.mark.parametrize(("family", "ending", "make"), PEERS)
def test_what_is_written_is_what_was_read(family: str, ending: str, make: Any, tmp_path: Path) -> None:
    save(tmp_path / "theirs", make())
    expected, _ = outputs(family, ending, tmp_path / "theirs")
    ending = "ForMaskedLM" if ending == "ForPreTraining" else ending  # without the head that nothing uses
    lm = germinal.load(tmp_path / "theirs")
    saved = lm.save(tmp_path / "ours")
    found, strange = outputs(family, ending, saved)
    assert strange <= UNUSED
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    again = germinal.load(saved)
    assert again.config == lm.config
    assert again.fingerprint == lm.fingerprint
    written = json.loads((saved / "config.json").read_text())
    assert written["architectures"] == [family + ending]
