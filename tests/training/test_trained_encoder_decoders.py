"""A tiny T5, BART and Marian trained from nothing by our loop, saved, and loaded in transformers: the same answers.

They learn to write a number that is given in words, and answer greedily and by beam search.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import small_tokenizer
from torch import nn
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import germinal
from germinal.checkpoints.cards import ModelCard
from germinal.checkpoints.checkpoint import Checkpoint
from germinal.checkpoints.hf_folder import write_folder
from germinal.models import families
from germinal.text.tokenizer import Tokenizer
from germinal.training.config import TrainingConfig
from germinal.training.examples import TuningData, encode_example
from germinal.training.loop import train
from germinal.training.lora import answer_loss

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
ONES_OF = [*ONES.split(), "eighteen", "nineteen"]
TENS_OF = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_layers": 2,
    "num_heads": 4,
    "max_position_embeddings": 64,
}
CONFIG = TrainingConfig(epochs=40, micro_batch_size=50, learning_rate=3e-3, validation_fraction=0.0, save_every=10_000)
SEARCHES = [
    {},
    {"num_beams": 4},
    {"num_beams": 4, "length_penalty": 3.0},
    {"num_beams": 4, "length_penalty": -2.0, "early_stopping": True},
    {"num_beams": 4, "length_penalty": 0.5, "early_stopping": "never"},
]


def in_words(number: int) -> str:
    if number < 20:
        return ONES_OF[number]
    if number < 100:
        return TENS_OF[number // 10] + (f" {ONES_OF[number % 10]}" if number % 10 else "")
    rest = f" and {in_words(number % 100)}" if number % 100 else ""
    return f"{ONES_OF[number // 100]} hundred{rest}"


def fresh(family: str, vocab_size: int) -> Any:
    torch.manual_seed(0)
    network = families.build(family, vocab_size=vocab_size, head_dim=16, **SIZES)
    for table in (module for module in network.modules() if isinstance(module, nn.Embedding)):
        nn.init.normal_(table.weight, std=table.embedding_dim**-0.5)
    return network


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "bart", "marian"])
def test_trained_from_nothing_it_writes_the_same_in_transformers(family: str, tmp_path: Path) -> None:
    small_tokenizer().save_pretrained(tmp_path / "tokenizer")
    tokenizer = Tokenizer.from_folder(tmp_path / "tokenizer")
    start, end, pad = 1, tokenizer.eos_id, tokenizer.pad_id
    assert end is not None
    assert pad is not None
    numbers = list(range(1000))
    random.Random(0).shuffle(numbers)
    unseen, seen = numbers[:100], numbers[100:]
    network = fresh(family, tokenizer.vocab_size)
    examples = [encode_example(tokenizer, in_words(number), str(number), apart=True) for number in seen]
    data = TuningData(examples, micro_batch_size=50, validation_fraction=0.0, seed=0, pad_id=pad, answer_start=(start,))
    train(network, answer_loss, data, CONFIG, tmp_path / "run", recipe={"family": family})

    checkpoint = Checkpoint(
        config=network.config,
        family=families.FAMILIES[family],
        state_dict=network.state_dict(),
        tokenizer=tokenizer,
        card=ModelCard(name=f"tiny-{family}"),
        generation_config={"decoder_start_token_id": start, "eos_token_id": end, "pad_token_id": pad},
    )
    write_folder(tmp_path / "model", checkpoint)
    lm = germinal.load(tmp_path / "model")
    theirs = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model")
    their_tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    prompts = [in_words(number) for number in unseen]
    for settings in SEARCHES:
        ours = lm.generate(prompts, max_new_tokens=8, **settings)
        for prompt, answer in zip(prompts, ours, strict=True):
            ids = their_tokenizer(prompt, return_tensors="pt")["input_ids"]
            output = theirs.generate(ids, max_new_tokens=8, do_sample=False, **settings)[0, 1:].tolist()
            assert list(answer.token_ids) == (output[: output.index(end)] if end in output else output), settings
        if settings in ({}, {"num_beams": 4}):
            right = sum(answer.text == str(number) for answer, number in zip(ours, unseen, strict=True))
            assert right >= 95, f"{right} of 100 unseen numbers"
