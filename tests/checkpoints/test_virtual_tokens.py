"""Prompt tuning and p-tuning, against PEFT; and adapters of every kind together in one batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from tiny_models import random_llama, small_tokenizer
from torch import Tensor

import germinal
from germinal.checkpoints.peft_folder import adapter_digest, save_adapter
from germinal.errors import CheckpointError, ContextWindowError, GerminalError, UnsupportedError
from germinal.language_model import LanguageModel
from germinal.writing.request import Request

VOCABULARY, WINDOW, TOKENS = 400, 40, 5
ONE, TWO = "CAUSAL_LM", "SEQ_2_SEQ_LM"
AUTO = {ONE: peft.AutoPeftModelForCausalLM, TWO: peft.AutoPeftModelForSeq2SeqLM}
TEXT = "This film is warm, and"


def random_t5() -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(**sizes, decoder_start_token_id=0, eos_token_id=2, pad_token_id=0)
    )


MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: random_llama(vocab_size=VOCABULARY, max_position_embeddings=WINDOW),
    "gemma": lambda: transformers.Gemma3ForCausalLM(
        transformers.Gemma3TextConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=4,
            max_position_embeddings=WINDOW,
            initializer_range=0.3,
        )
    ),
    "t5": random_t5,
}
METHODS: dict[str, Callable[[str], Any]] = {
    "prompt tuning": lambda task: peft.PromptTuningConfig(task_type=task, num_virtual_tokens=TOKENS),
    "p-tuning": lambda task: peft.PromptEncoderConfig(task_type=task, num_virtual_tokens=TOKENS, encoder_hidden_size=8),
}


def base_folder(name: str, folder: Path) -> Path:
    torch.manual_seed(0)
    MODELS[name]().save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


def tuned(base: Path, config: Any, folder: Path) -> Path:
    """An adapter of PEFT with random numbers in place of a training."""
    cls = (
        transformers.AutoModelForSeq2SeqLM if config.task_type == "SEQ_2_SEQ_LM" else transformers.AutoModelForCausalLM
    )
    model = peft.get_peft_model(cls.from_pretrained(base), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    model.save_pretrained(folder)
    return folder


def greedy(model: Any, ids: list[int], count: int, start: int | None) -> list[int]:
    """The likeliest tokens by PEFT's forward pass, each from all tokens before it."""
    answer: list[int] = []
    while len(answer) < count:
        with torch.no_grad():
            if start is None:
                logits = model(input_ids=torch.tensor([[*ids, *answer]])).logits
            else:
                logits = model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([[start, *answer]])).logits
        answer.append(int(logits[0, -1].argmax()))
    return answer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_logits_answers_scores_and_loss_are_pefts(name: str, method: str, tmp_path: Path) -> None:
    task = TWO if name == "t5" else ONE
    base = base_folder(name, tmp_path / "base")
    adapter = tuned(base, METHODS[method](task), tmp_path / "adapter")
    model = AUTO[task].from_pretrained(adapter).eval()
    lm = germinal.load(base, adapter=adapter, precision="float32", device="cpu")
    ids = list(lm.encode_prompt(TEXT))
    two = {"decoder_input_ids": torch.tensor([[0, 7, 9]])} if lm.two_stacks else {}
    mask = torch.ones(1, len(ids), dtype=torch.long)

    with torch.no_grad():
        expected = model(input_ids=torch.tensor([ids]), attention_mask=mask, **two).logits
        loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss
    ours = lm.logits([ids], mask, **two)
    torch.testing.assert_close(ours, expected[:, -ours.shape[1] :], atol=1e-4, rtol=1e-4)
    assert (ours - germinal.load(base, device="cpu").logits([ids], **two)).abs().max() > 0.01
    torch.testing.assert_close(lm.loss([ids], labels=[ids]), loss, atol=1e-4, rtol=1e-4)

    answer = greedy(model, ids, 6, 0 if lm.two_stacks else None)
    never = {"max_new_tokens": 6, "temperature": 0.0, "eos_ids": ()}
    assert list(lm.generate(TEXT, **never).token_ids) == answer
    assert list(lm.generate([TEXT, TEXT, "Not this"], **never)[1].token_ids) == answer

    save_adapter(lm.network, "default", tmp_path / "again", family=lm.family, base=str(base))
    again = AUTO[task].from_pretrained(tmp_path / "again").eval()
    with torch.no_grad():
        torch.testing.assert_close(
            again(input_ids=torch.tensor([ids]), attention_mask=mask, **two).logits, expected, atol=1e-4, rtol=1e-4
        )
    assert adapter_digest(tmp_path / "again") != adapter_digest(tuned_otherwise(base, task, tmp_path / "other"))


def tuned_otherwise(base: Path, task: str, folder: Path) -> Path:
    return tuned(base, peft.PromptTuningConfig(task_type=task, num_virtual_tokens=TOKENS + 1), folder)


def test_virtual_tokens_take_their_share_of_the_window(tmp_path: Path) -> None:
    base = base_folder("llama", tmp_path / "base")
    adapter = tuned(base, METHODS["prompt tuning"](ONE), tmp_path / "adapter")
    lm = germinal.load(base, adapter=adapter, precision="float32", device="cpu")
    assert lm.context_window == WINDOW - TOKENS
    full = Request(tuple(range(5, 5 + WINDOW - TOKENS)), lm.writer.generation_config({}), adapter="default")
    with pytest.raises(ContextWindowError, match=f"prompt of {WINDOW} tokens"):
        list(lm.respond([full]))
    answered = lm.generate(TEXT, repetition_penalty=1.5, max_new_tokens=WINDOW, eos_ids=(), num_beams=2)
    assert len(answered.token_ids) == lm.context_window - len(lm.encode_prompt(TEXT))


def test_what_cannot_be_read_behind_virtual_tokens_is_refused(tmp_path: Path) -> None:
    base = base_folder("llama", tmp_path / "base")
    adapter = tuned(base, METHODS["prompt tuning"](ONE), tmp_path / "adapter")
    lm = germinal.load(base, adapter=adapter, device="cpu")
    with pytest.raises(UnsupportedError, match="'default': has virtual tokens, with which a model cannot give vectors"):
        lm.encode(TEXT)
    with pytest.raises(GerminalError, match="prefix_mask"):
        lm.logits([[5, 6]], prefix_mask=[[1, 0]])
    lm.adapter = None
    lm.encode(TEXT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_virtual_tokens": 4}, r"has the shape \[5, 48\]; .* require \[4, 48\]"),
        ({"num_virtual_tokens": 10**9}, "num_virtual_tokens"),
        ({"num_virtual_tokens": "5"}, "num_virtual_tokens"),
    ],
)
def test_a_config_that_contradicts_the_rows(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    base = base_folder("llama", tmp_path / "base")
    adapter = tuned(base, METHODS["prompt tuning"](ONE), tmp_path / "adapter")
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(CheckpointError, match=message):
        germinal.load(base, adapter=adapter, device="cpu")


LORA: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": ["q_proj", "lm_head"]},
    "dora": {"target_modules": ["v_proj", "embed_tokens"], "use_dora": True},
    "norms": {"target_modules": ["q_proj"], "modules_to_save": ["norm"]},
    "tokens": {"target_modules": ["o_proj"], "trainable_token_indices": [5, 9]},
}


def test_adapters_of_all_kinds_answer_together_as_each_alone(tmp_path: Path) -> None:
    base = base_folder("llama", tmp_path / "base")
    lm = germinal.load(base, precision="float32", device="cpu")
    lm.add_adapter(tuned(base, METHODS["prompt tuning"](ONE), tmp_path / "prompt"), "prompt")
    for name, settings in LORA.items():
        folder = tuned(base, peft.LoraConfig(task_type=ONE, r=4, **settings), tmp_path / name)
        lm.add_adapter(folder, name)
    names = [None, "prompt", *LORA]

    def logits(name: str | None) -> Tensor:
        lm.adapter = name
        return lm.logits([list(range(5, 15))])

    alone = {name: answers(lm, [name])[0] for name in names}
    assert len({tuple(logits(name).flatten().tolist()) for name in names}) == len(names)
    assert answers(lm, [*names, *names]) == [alone[name] for name in [*names, *names]]
    assert torch.equal(
        logits(None), germinal.load(base, precision="float32", device="cpu").logits([list(range(5, 15))])
    )


def answers(lm: LanguageModel, names: list[str | None]) -> list[tuple[tuple[int, ...], list[float]]]:
    """What each adapter generates and how it scores two continuations, in one batch."""
    config = lm.writer.generation_config({"max_new_tokens": 6, "temperature": 0.0, "eos_ids": ()})
    ids = tuple(lm.encode_prompt(TEXT))
    requests = [Request(ids, config, continuations=((7, 8), (9,)), adapter=name) for name in names]
    found = dict(lm.respond(requests))
    return [
        (found[each].completions[0].token_ids, [round(score, 3) for score in found[each].scores])
        for each in range(len(names))
    ]
