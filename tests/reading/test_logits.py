"""`lm.logits` and `lm.loss` are those of transformers, also of each document of a packed row and of prefix-LMs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from generative_models import random_model
from tiny_models import small_tokenizer

import germinal
from germinal.errors import ContextWindowError, SettingError
from germinal.language_model import LanguageModel

Make = Callable[..., tuple[Any, LanguageModel]]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`make(family, **config)`: the same random model, theirs and ours."""

    def made(family: str, **config: Any) -> tuple[Any, LanguageModel]:
        folder, tokenizer = tmp_path_factory.mktemp(family), small_tokenizer()
        model = random_model(family, vocab_size=len(tokenizer), **config)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return model, germinal.load(folder)

    return made


def documents(lengths: list[int], seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 90, (1, length), generator=generator) for length in lengths]


def packed(parts: list[torch.Tensor], padding: int, filled: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """One row and the numbers of its documents; padding has the number -1."""
    numbers = [number for number, part in enumerate(parts) for _ in range(part.shape[1])] + [-1] * padding
    return torch.cat([*parts, torch.full((1, padding), filled)], 1), torch.tensor([numbers])


@pytest.mark.parametrize("family", ["t5", "bart", "marian"])
def test_logits_and_loss_are_transformers(make: Make, family: str) -> None:
    model, lm = make(family)
    torch.manual_seed(0)
    ids, labels = torch.randint(3, 90, (2, 9)), torch.randint(3, 90, (2, 6))
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    labels[1, 4:] = -100
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask, labels=labels)
        read = labels.roll(1)
        given = model(input_ids=ids, attention_mask=mask, labels=labels, decoder_input_ids=read.clamp(min=0))
    assert lm.loss(ids, mask, labels).item() == pytest.approx(expected.loss.item(), rel=2e-5)
    assert lm.loss(ids, mask, labels, read.clamp(min=0)).item() == pytest.approx(given.loss.item(), rel=2e-5)
    found = lm.logits(ids, mask, read.clamp(min=0))
    # Weights as large as these amplify rounding, which differs with the number of threads.
    torch.testing.assert_close(found, given.logits, atol=5e-4 * given.logits.std().item(), rtol=1e-4)
    with pytest.raises(SettingError, match="labels"):
        lm.loss(ids)
    with pytest.raises(SettingError, match="decoder_input_ids"):
        lm.logits(ids)
    with pytest.raises(SettingError, match="two dimensions"):
        lm.logits(ids, mask, read[0].clamp(min=0))


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "gemma3"])
def test_a_decoder_predicts_nothing_across_borders(make: Make, family: str) -> None:
    model, lm = make(family)
    parts = documents([5, 1, 7, 3], 0)
    ids, numbers = packed(parts, 4)
    mask = (numbers >= 0).long()
    with torch.no_grad():
        expected = [model(part, labels=part) for part in parts]
    logits = lm.logits(ids, mask, document_ids=numbers)
    alone = torch.cat([each.logits for each in expected], 1)
    torch.testing.assert_close(logits[:, :16], alone, atol=1e-3, rtol=1e-4)
    sums = [
        each.loss.item() * (part.shape[1] - 1) for each, part in zip(expected, parts, strict=True) if part.numel() > 1
    ]
    assert lm.loss(ids, mask, document_ids=numbers).item() == pytest.approx(sum(sums) / 12, abs=1e-4)
    assert lm.loss(ids, mask).item() != pytest.approx(sum(sums) / 12, abs=1e-2)


@pytest.mark.parametrize("family", ["t5", "bart", "marian"])
def test_an_encoder_decoder_starts_anew_in_each_document(make: Make, family: str) -> None:
    model, lm = make(family)
    sources, labels = documents([5, 2, 7], 0), documents([3, 6, 1], 1)
    ids, numbers = packed(sources, 3)
    targets, of_targets = packed(labels, 2, -100)
    with torch.no_grad():
        expected = [model(input_ids=s, labels=t).loss.item() * t.numel() for s, t in zip(sources, labels, strict=True)]
    found = lm.loss(ids, (numbers >= 0).long(), targets, document_ids=numbers, decoder_document_ids=of_targets)
    assert found.item() == pytest.approx(sum(expected) / 10, rel=1e-4)
    with pytest.raises(SettingError, match=r"decoder_document_ids.*\[1, 4\].*\[1, 12\]"):
        lm.loss(ids, None, targets, document_ids=numbers, decoder_document_ids=of_targets[:, :4])


def test_a_prefix_is_read_and_not_learned(make: Make) -> None:
    model, lm = make("llama")
    (ids,) = documents([9], 2)
    prefix = torch.arange(9)[None] < 4
    visible = torch.ones(9, 9).tril() + prefix.float().T @ prefix.float()
    mask = torch.where(visible > 0, 0.0, torch.finfo(torch.float32).min)[None, None]
    with torch.no_grad():
        expected = model(ids, attention_mask=mask, labels=ids.masked_fill(prefix, -100))
    torch.testing.assert_close(lm.logits(ids, prefix_mask=prefix), expected.logits, atol=1e-3, rtol=1e-4)
    assert lm.loss(ids, prefix_mask=prefix).item() == pytest.approx(expected.loss.item(), abs=1e-4)
    labelled = lm.loss(ids, None, ids.masked_fill(prefix, -100), prefix_mask=prefix.tolist())
    assert labelled.item() == pytest.approx(expected.loss.item(), abs=1e-4)


def test_a_row_may_be_longer_than_the_positions_that_each_document_needs(make: Make) -> None:
    _, lm = make("gpt2", n_positions=8)
    ids, numbers = packed(documents([8, 5, 8], 3), 0)
    assert lm.logits(ids, document_ids=numbers).shape[1] == 21
    with pytest.raises(ContextWindowError, match=r"input_ids.*21 tokens.*8"):
        lm.logits(ids)
    with pytest.raises(ContextWindowError, match=r"input_ids.*13 tokens.*8"):
        lm.logits(ids, document_ids=numbers.clamp(min=1))
