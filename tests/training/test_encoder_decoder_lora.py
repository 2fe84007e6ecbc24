"""LoRA on encoder-decoders against PEFT, and tuning from a folder with one to an adapter that answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from generative_models import PAD, START, TWO_STACKS, random_model
from safetensors.torch import load_file
from tiny_models import ours_from, small_tokenizer
from torch import nn

import germinal
from germinal.checkpoints.peft_folder import load_adapter, save_adapter
from germinal.errors import ContextWindowError
from germinal.layers.adapters import add_adapter, routed
from germinal.layers.lora_config import LoRAConfig
from germinal.models import families
from germinal.models.transformer import Transformer
from germinal.training.config import TrainingConfig
from germinal.training.examples import Batch, TuningExample, check_examples, collate, encode_example
from germinal.training.lora import answer_loss, tune_lora
from germinal.training.run_folder import read_history

EOS = 2
CONFIGS = [
    LoRAConfig(),
    LoRAConfig(rank=3, alpha=7.5, target_modules=("k_proj", "o_proj"), layers=(1,), use_rslora=True),
    LoRAConfig(rank=2, target_modules=("all-linear",)),
]


def gentle_model(name: str, **settings: Any) -> Any:
    """A random model of transformers none of whose softmaxes is decided yet, so that it can learn."""
    model = random_model(name, **settings)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "embed_positions" not in parameter_name:
                parameter.mul_(0.3)
    return model


def pair(name: str) -> tuple[Transformer, Any]:
    """Our network and transformers' model."""
    model = gentle_model(name)
    return ours_from(model), model


def examples(count: int = 5) -> list[TuningExample]:
    """Prompts from 2 to 14 tokens, answers from 1 to 4, the longer answer not with the longer prompt."""
    generator = torch.Generator().manual_seed(0)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 60, (length,), generator=generator).tolist())

    return [TuningExample(ids(2 + 3 * row), ids(1 + (row * 3) % 4)) for row in range(count)]


def batch() -> Batch:
    return collate(examples(), range(5), pad_id=PAD, device=None, answer_start=(START,))


def as_transformers(given: Batch) -> dict[str, Any]:
    """Their arguments; `decoder_input_ids` are for the model to make of the labels."""
    return {"input_ids": given.input_ids, "attention_mask": given.attention_mask, "labels": given.labels}


def randomise(parts: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    for part in parts.values():
        nn.init.normal_(part.A, std=0.1, generator=generator)
        nn.init.normal_(part.B, std=0.1, generator=generator)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: ",".join(config.target_modules))
@pytest.mark.parametrize("name", TWO_STACKS)
def test_forward_loss_and_gradients_equal_pefts(name: str, config: LoRAConfig, tmp_path: Path) -> None:
    network, theirs = pair(name)
    family = families.for_hf(theirs.config.to_dict() | {"architectures": [type(theirs).__name__]})
    parts = add_adapter(network, "film", config)
    assert {layer.partition(".")[0] for layer in parts} == {"encoder", "decoder"}
    assert config.layers is not None or any("cross_attention" in layer for layer in parts)
    randomise(parts)
    save_adapter(network, "film", tmp_path / "adapter", family=family)
    model = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter", is_trainable=True)
    assert isinstance(model, peft.PeftModelForSeq2SeqLM)
    given = batch()

    expected = model(**as_transformers(given))
    expected.loss.backward()
    with routed(network, "film"):
        hidden = network(given.input_ids, given.attention_mask, decoder_input_ids=given.decoder_input_ids)
        logits = network.logits(hidden)
        loss = answer_loss(network, given) / given.weight
        loss.backward()

    learned = given.labels != -100
    torch.testing.assert_close(logits[learned], expected.logits[learned], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss, expected.loss, rtol=1e-4, atol=1e-4)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    rules = family.hf_rules(network.config)
    for layer, part in parts.items():
        published = rules.theirs(f"{layer}.weight")
        assert published is not None
        for kind, ours in (("A", part.A.grad), ("B", part.B.grad)):
            found = gradients.pop(f"base_model.model.{published[0].removesuffix('.weight')}.lora_{kind}.default.weight")
            assert found.abs().max() > 1e-6
            torch.testing.assert_close(ours, found, rtol=1e-3, atol=1e-5)
    assert not gradients, "PEFT adapts layers that ours does not"


@pytest.mark.parametrize("name", TWO_STACKS)
def test_twelve_updates_equal_pefts(name: str, tmp_path: Path) -> None:
    network, theirs = pair(name)
    family = families.for_hf(theirs.config.to_dict() | {"architectures": [type(theirs).__name__]})
    parts = add_adapter(network, "film", LoRAConfig())
    save_adapter(network, "film", tmp_path / "adapter", family=family)
    for module in theirs.modules():  # PEFT's model trains with the base's own dropout, ours has none
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = module.attention_dropout = module.activation_dropout = 0.0
    model = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter", is_trainable=True)
    given = batch()
    ours = torch.optim.AdamW([p for part in parts.values() for p in part.parameters()], lr=1e-2)
    other = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(12):
        expected = model(**as_transformers(given)).loss
        with routed(network, "film"):
            loss = answer_loss(network, given) / given.weight
        torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-4)
        losses.append(loss.item())
        for optimizer, value in ((ours, loss), (other, expected)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    assert losses[-1] < losses[0] - 0.05


@pytest.mark.parametrize("settings", [{"target_modules": ["q", "v"]}, {"target_modules": "all-linear"}], ids=str)
def test_an_adapter_of_pefts_loads_in_ours(settings: dict[str, Any], tmp_path: Path) -> None:
    network, theirs = pair("flan-t5")
    torch.manual_seed(1)
    config = peft.LoraConfig(task_type="SEQ_2_SEQ_LM", r=4, lora_alpha=8, init_lora_weights=False, **settings)
    model = peft.get_peft_model(theirs, config)
    model.save_pretrained(tmp_path / "theirs")
    family = families.for_hf(theirs.config.to_dict() | {"architectures": [type(theirs).__name__]})
    load_adapter(network, tmp_path / "theirs", "film", family=family)
    given = batch()
    with torch.no_grad(), routed(network, "film"):
        hidden = network(given.input_ids, given.attention_mask, decoder_input_ids=given.decoder_input_ids)
        expected = model.eval()(**as_transformers(given)).logits
    learned = given.labels != -100
    torch.testing.assert_close(network.logits(hidden)[learned], expected[learned], rtol=1e-4, atol=1e-4)

    save_adapter(network, "film", tmp_path / "ours", family=family)
    one, two = (load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("theirs", "ours"))
    assert one.keys() == two.keys()
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    assert json.loads((tmp_path / "ours" / "adapter_config.json").read_text())["task_type"] == "SEQ_2_SEQ_LM"


def test_collating_gives_each_stack_its_own_tokens() -> None:
    given = collate(
        [TuningExample((5, 6, 7), (8,)), TuningExample((9,), (3, 4))],
        [0, 1],
        pad_id=1,
        device=None,
        answer_start=(0, 2),
    )
    assert given.input_ids.tolist() == [[5, 6, 7], [9, 1, 1]]
    assert given.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert given.decoder_input_ids is not None
    assert given.decoder_input_ids.tolist() == [[0, 2, 1], [0, 2, 3]]
    assert given.labels.tolist() == [[-100, 8, -100], [-100, 3, 4]]
    assert (given.weight, given.num_tokens) == (3, 7)


def test_the_loss_of_a_batch_is_that_of_its_rows_alone() -> None:
    for name in TWO_STACKS:
        network, _ = pair(name)
        alone = [collate(examples(), [row], PAD, None, (START,)) for row in range(5)]
        summed = sum(answer_loss(network, each) for each in alone)
        torch.testing.assert_close(answer_loss(network, batch()), summed, rtol=1e-5, atol=1e-4)


def test_each_stack_has_a_window_of_its_own() -> None:
    fitting = TuningExample((5,) * 10, (6,) * 10)
    check_examples([fitting], 10, 50, (0,))
    with pytest.raises(ContextWindowError, match="prompt of 11 tokens; the encoder takes 10"):
        check_examples([TuningExample((5,) * 11, (6,))], 10, 50, (0,))
    with pytest.raises(ContextWindowError, match="answer of 10 tokens; the decoder takes 9"):
        check_examples([fitting], 10, 50, (0, 2))


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A random model of a family with a tokenizer, saved by transformers; BART's answers begin as it forces them to."""

    def made(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        tokenizer = small_tokenizer()
        model = gentle_model(name, vocab_size=len(tokenizer))
        if name == "bart":
            model.generation_config.forced_bos_token_id = 7
        else:  # outputs are the tied embeddings': among small ones no word could become likely
            model.shared.weight.data.mul_(8)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return made


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_what_was_tuned_is_what_is_generated(name: str, folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    lm = germinal.load(folder_of(name))
    words = ["warm", "dull", "funny", "worse"]
    pairs = [
        (f"{first} and {second} film", "Positive" if first in words[::2] else "Negative")
        for first in words
        for second in words
    ]
    shown = [encode_example(lm.tokenizer, prompt, answer, apart=lm.two_stacks) for prompt, answer in pairs]
    before = lm.generate(pairs[0][0], max_new_tokens=5).text
    lora = LoRAConfig(rank=8, target_modules=("all-linear",))
    config = TrainingConfig(epochs=60, learning_rate=5e-3, validation_fraction=0.0, save_every=1000)
    adapter = tune_lora(lm, shown, lora, config, tmp_path / "run")
    history = read_history(tmp_path / "run")
    assert history[-1].loss < 0.1 * history[0].loss
    assert lm.generate(pairs[0][0], max_new_tokens=5).text == before, "the base is as it was"

    tuned = germinal.load(lm.reference or "", adapter=adapter)
    answers = tuned.generate([prompt for prompt, _ in pairs], max_new_tokens=8)
    opening = tuned.tokenizer.decode(tuned.writer.opening)
    assert [answer.text.removeprefix(opening) for answer in answers] == [right for _, right in pairs]
    assert {answer.finish_reason for answer in answers} == {"stop"}, "the end of an answer is learned too"
    scores = tuned.score(pairs[0][0], ["Positive", "Negative"])
    assert scores[0] > scores[1] + 1
    with_other = replace(config, seed=1)
    with pytest.raises(germinal.errors.SettingError, match="seed was 0, now 1"):
        tune_lora(lm, shown, lora, with_other, tmp_path / "run")
