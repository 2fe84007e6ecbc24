"""Classes, regressions and rewards that are read from the last token, against transformers; there and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_encoders import TEXTS, save_encoder
from tiny_models import small_tokenizer
from tokenizers.processors import TemplateProcessing
from typer.testing import CliRunner

import germinal
from germinal.cli.main import app
from germinal.errors import CheckpointError, GerminalError, TemplateError, UnsupportedError
from germinal.inspection import inspect

MakeModel = Callable[..., Path]

DECODER = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 40}
SIZES: dict[str, dict[str, Any]] = {
    "Llama": {**DECODER, "num_key_value_heads": 2},
    "Qwen2": {**DECODER, "num_key_value_heads": 2},
    "GPT2": {"n_embd": 24, "n_head": 4, "n_layer": 2},
    "Bart": {
        "d_model": 24,
        "decoder_start_token_id": 2,
        "forced_eos_token_id": None,
        **{f"{stack}_layers": 2 for stack in ("encoder", "decoder")},
        **{f"{stack}_attention_heads": 4 for stack in ("encoder", "decoder")},
        **{f"{stack}_ffn_dim": 40 for stack in ("encoder", "decoder")},
    },
    "T5": {"d_model": 24, "d_kv": 6, "d_ff": 40, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0},
}
CHATS = [
    [{"role": "user", "content": "Is it warm?"}, {"role": "assistant", "content": text}]
    for text in ("Yes.", "No, dull.")
]


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """A random model with a head for whole texts, as transformers saves it."""

    def make(family: str, *, ends_texts: bool = False, **config: Any) -> Path:
        torch.manual_seed(0)
        tokenizer = small_tokenizer()
        if ends_texts:
            end = (tokenizer.eos_token, tokenizer.eos_token_id)
            tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"$A {end[0]}", special_tokens=[end])
        ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        settings = getattr(transformers, f"{family}Config")(vocab_size=len(tokenizer), **ids, **SIZES[family], **config)
        model = getattr(transformers, f"{family}ForSequenceClassification")(settings)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        model.tie_weights()
        model.save_pretrained(tmp_path / "model")
        tokenizer.save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return make


def logits_of(folder: Path, texts: list[Any]) -> torch.Tensor:
    """What transformers' model says of texts, or of the messages of chats, in one padded batch."""
    # The class that reads tokenizer.json as it is; AutoTokenizer takes a family's own, which may cut texts otherwise.
    tokenizer: Any = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    special = isinstance(texts[0], str)
    if not special:
        texts = [tokenizer.apply_chat_template(each, tokenize=False) for each in texts]
    inputs = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=special)
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        return model(**inputs).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", SIZES)
def test_classes_are_transformers_and_stay_so_when_saved(make_model: MakeModel, family: str, tmp_path: Path) -> None:
    folder = make_model(family, ends_texts=family in ("Bart", "T5"), id2label={0: "bad", 1: "good", 2: "odd"})
    expected = logits_of(folder, TEXTS).softmax(-1)
    lm = germinal.load(folder)
    saved = lm.save(tmp_path / "saved")
    torch.testing.assert_close(logits_of(saved, TEXTS).softmax(-1), expected, atol=1e-5, rtol=0)
    for model in (lm, germinal.load(saved)):
        for found, row in zip(model.classify(TEXTS), expected.tolist(), strict=True):
            assert list(found.probabilities) == ["bad", "good", "odd"]
            assert list(found.probabilities.values()) == pytest.approx(row, abs=1e-5)
    assert germinal.load(saved).head_config == lm.head_config


def test_a_reward_is_one_number_for_a_chat_or_a_text(make_model: MakeModel) -> None:
    folder = make_model("Llama", num_labels=1)
    lm = germinal.load(folder)
    expected = logits_of(folder, CHATS)[:, 0].tolist()
    assert expected[0] != pytest.approx(expected[1], abs=1e-3)
    assert lm.reward(CHATS) == pytest.approx(expected, abs=1e-4)
    assert lm.reward(CHATS[0]) == pytest.approx(expected[0], abs=1e-4)
    assert lm.reward(TEXTS[0]) == pytest.approx(float(logits_of(folder, TEXTS[:1])[0, 0]), abs=1e-4)
    found = lm.classify(TEXTS[0])
    assert found.value == pytest.approx(lm.reward(TEXTS[0]))
    # Not said to be a regression: the pipeline takes the single output for the log-odds of the class.
    peer = transformers.pipeline("text-classification", model=str(folder), device="cpu", top_k=None)(TEXTS[:1])[0]
    assert found.probabilities == pytest.approx({each["label"]: each["score"] for each in peer}, abs=1e-5)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(TemplateError):
        germinal.load(folder).reward(CHATS)


def test_the_commands_read_such_heads_too(make_model: MakeModel, tmp_path: Path) -> None:
    folder = make_model("Llama", num_labels=1)
    lm = germinal.load(folder)
    for arguments, expected in (
        (["Yes.", "--prompt", "Is it warm?"], lm.reward(CHATS[0])),
        ([TEXTS[0]], lm.reward(TEXTS[0])),
    ):
        done = CliRunner().invoke(app, ["classify", str(folder), *arguments, "--quiet"])
        assert done.exit_code == 0
        assert done.output.endswith(f"{expected:.4f}\n")


@pytest.mark.parametrize("family", ["Llama", "Bart"])
def test_a_look_inside_shows_what_such_a_head_says(make_model: MakeModel, family: str) -> None:
    lm = germinal.load(make_model(family, ends_texts=True, num_labels=3))
    look = inspect(lm, TEXTS[0])
    assert look.sections[-1].id == "reading"
    expected = sorted(lm.classify(TEXTS[0]).probabilities.items(), key=lambda item: -item[1])
    assert list(look.sections[-1].tables[0].rows) == [(label, f"{each:.1%}") for label, each in expected]
    assert ("attention-cross" in look.pictures) == (family == "Bart")


def test_padding_that_a_text_ends_with_is_not_looked_at(make_model: MakeModel) -> None:
    folder = make_model("GPT2", num_labels=1)
    text = f"{TEXTS[0]}<|endoftext|><|endoftext|>"
    assert germinal.load(folder).reward(text) == pytest.approx(float(logits_of(folder, [text])[0, 0]), abs=1e-5)


def test_a_regression_may_have_several_outputs(tmp_path: Path) -> None:
    names = {0: "helpful", 1: "true"}
    labels = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    folder = save_encoder(tmp_path, "BertForSequenceClassification", problem_type="regression", **labels)
    lm = germinal.load(folder)
    found = lm.classify(TEXTS[0])
    assert (found.label, found.probabilities, found.value) == (None, {}, None)
    assert list(found.values.values()) == pytest.approx(logits_of(folder, TEXTS[:1])[0].tolist(), abs=1e-5)
    assert list(found.values) == ["helpful", "true"]
    assert germinal.load(lm.save(folder / "saved")).classify(TEXTS[0]) == found
    with pytest.raises(UnsupportedError, match="2 outputs"):
        lm.reward(TEXTS[0])


@pytest.mark.parametrize(
    ("family", "change", "error", "message"),
    [
        ("Bart", {}, UnsupportedError, "the tokenizer adds none"),
        ("T5", {"ends_texts": True, "decoder_start_token_id": None}, CheckpointError, "decoder_start_token_id"),
    ],
)
def test_what_a_head_needs_and_has_not_is_said(
    make_model: MakeModel, family: str, change: dict[str, Any], error: type[GerminalError], message: str
) -> None:
    kept = {**SIZES[family]}
    try:
        SIZES[family] = {key: value for key, value in kept.items() if key not in change}
        folder = make_model(family, **change)
    finally:
        SIZES[family] = kept
    with pytest.raises(error, match=message):
        germinal.load(folder).classify(TEXTS)
