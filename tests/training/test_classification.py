"""Heads for classes against transformers: the same loss, gradients and updates; folders that it reads; kills."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_encoders import TEXTS, save_encoder
from torch import Tensor

import germinal
from germinal.errors import ContextWindowError, DataError, SettingError, TrainingError, UnsupportedError
from germinal.models.transformer import Transformer
from germinal.training.classification import ClassData, ClassExample, class_loss, tune_classifier, with_class_head
from germinal.training.config import TrainingConfig
from germinal.training.loop import train
from germinal.training.run_folder import Record, read_history

MakeEncoder = Callable[..., Path]
LABELS = ("bad", "fair", "good")
QUICK = TrainingConfig(
    max_steps=6, epochs=3, micro_batch_size=4, learning_rate=5e-3, save_every=2, validation_fraction=0.2
)

# Bodies, and what of transformers' classifier is fresh on each of them.
KINDS = {
    "BertModel": ["classifier"],
    "BertForMaskedLM": ["classifier", "bert.pooler.dense"],
    "RobertaModel": ["classifier.dense", "classifier.out_proj"],
    "RobertaForMaskedLM": ["classifier.dense", "classifier.out_proj"],
    "DistilBertModel": ["classifier", "pre_classifier"],
}


@pytest.fixture(scope="module")
def make_encoder(tmp_path_factory: pytest.TempPathFactory) -> MakeEncoder:
    return lambda kind, **config: save_encoder(tmp_path_factory.mktemp(kind.lower()), kind, **config)


@pytest.fixture(scope="module")
def encoder(make_encoder: MakeEncoder) -> Path:
    return make_encoder("BertModel")


def examples_of(lm: germinal.LanguageModel, count: int = 20) -> list[ClassExample]:
    """Texts of different lengths; their classes repeat."""
    words = " ".join(TEXTS).split()
    texts = [" ".join(words[place : place + 1 + place % 7]) for place in range(count)]
    return [ClassExample(tuple(lm.tokenizer.encode(text)), place % 3) for place, text in enumerate(texts)]


def pair(folder: Path, fresh: list[str]) -> tuple[germinal.LanguageModel, Transformer, Any]:
    """Our network with a fresh head, and transformers' classifier on the same body with the same fresh weights."""
    lm = germinal.load(folder)
    ours = with_class_head(lm.network, 3, seed=1)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3).eval()
    published = in_their_names(lm, ours, dict(ours.state_dict()))
    known = theirs.state_dict()
    assert set(published) <= set(known)
    for name, tensor in published.items():
        if not name.startswith(tuple(f"{part}." for part in fresh)):
            torch.testing.assert_close(tensor, known[name], rtol=0, atol=0, msg=name)
    theirs.load_state_dict(published, strict=False)
    return lm, ours, theirs


def in_their_names(lm: germinal.LanguageModel, network: Transformer, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(lm.family.hf_rules(network.config).convert_to_theirs(tensors))


@pytest.mark.parametrize("kind", KINDS)
def test_loss_gradients_and_updates_are_transformers(make_encoder: MakeEncoder, tmp_path: Path, kind: str) -> None:
    lm, ours, theirs = pair(make_encoder(kind), KINDS[kind])
    config = TrainingConfig(
        epochs=2,
        micro_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=2e-3,
        schedule="constant",
        warmup_steps=0,
        weight_decay=0.01,
        validation_fraction=0,
    )
    data = ClassData(examples_of(lm), config, lm.tokenizer.pad_id or 0)
    batch = data.epoch(0)[0]
    loss = class_loss(ours, batch) / batch.weight
    loss.backward()
    expected = theirs(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters() if parameter.grad is not None}
    assert len(gradients) == len(dict(ours.named_parameters()))
    found = in_their_names(lm, ours, gradients)
    for name, parameter in theirs.named_parameters():
        if name in found:  # an unused pooler of a bare model is not written
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)

    ours.zero_grad(set_to_none=True)
    result = train(ours, class_loss, data, config, tmp_path / "run", recipe={})
    losses = by_hand(theirs, data, config)
    assert [record.loss for record in result.history] == pytest.approx(losses, rel=1e-4)
    after = in_their_names(lm, ours, dict(ours.state_dict()))
    for name, parameter in theirs.named_parameters():
        if name in after:
            # A gradient of almost nothing (a key's bias) is rounding alone, of which AdamW makes a whole step.
            tolerance = 2e-2 if "k" in name and name.endswith("bias") else 1e-4
            torch.testing.assert_close(after[name], parameter.detach(), rtol=1e-3, atol=tolerance, msg=name)


def by_hand(model: Any, data: ClassData, config: TrainingConfig) -> list[float]:
    """The same updates of transformers' model, with torch's AdamW: the losses."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
    losses = []
    for number in range(config.epochs):
        batches = data.epoch(number)
        for start in range(0, len(batches), 2):
            group = [batches[place] for place in range(start, min(start + 2, len(batches)))]
            count = sum(len(batch.rows) for batch in group)
            optimizer.zero_grad()
            mean = sum(
                model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
                * (len(batch.rows) / count)
                for batch in group
            )
            mean.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(mean.item())
    return losses


@pytest.mark.parametrize("kind", ["BertModel", "RobertaForMaskedLM", "DistilBertModel"])
def test_the_folder_is_transformers_and_classifies_alike(make_encoder: MakeEncoder, tmp_path: Path, kind: str) -> None:
    lm = germinal.load(make_encoder(kind))
    folder = tune_classifier(lm, examples_of(lm), LABELS, QUICK, tmp_path / "run")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert theirs.config.id2label == dict(enumerate(LABELS))
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = theirs(**inputs).logits
    tuned = germinal.load(folder)
    assert tuned.config.head == "sequence-classification"
    with torch.inference_mode():
        network = tuned.network
        assert network.head is not None
        ours = network.head(network(inputs["input_ids"], inputs["attention_mask"]))
    torch.testing.assert_close(ours, logits, rtol=1e-5, atol=1e-5)
    for found, row in zip(tuned.classify(TEXTS), logits.softmax(-1), strict=True):
        assert list(found.probabilities.values()) == pytest.approx(row.tolist(), abs=1e-5)
        assert found.label == LABELS[int(row.argmax())]


def test_a_classifier_keeps_its_pooler_and_gets_other_classes(make_encoder: MakeEncoder) -> None:
    lm = germinal.load(make_encoder("BertForSequenceClassification", num_labels=5))
    network = with_class_head(lm.network, 2, seed=0)
    assert torch.equal(network.head.dense.weight, lm.network.head.dense.weight)  # type: ignore[union-attr]
    assert network.head.classifier.weight.shape == (2, 24)  # type: ignore[union-attr]
    assert network.embed_tokens.weight.data_ptr() != lm.network.embed_tokens.weight.data_ptr()


def test_tuning_leaves_the_model_alone_and_its_precision_on_disk(encoder: Path, tmp_path: Path) -> None:
    lm = germinal.load(encoder, precision="bfloat16")
    before = {name: tensor.clone() for name, tensor in lm.network.state_dict().items()}
    folder = tune_classifier(lm, examples_of(lm), LABELS, QUICK, tmp_path / "run")
    for name, tensor in lm.network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(parameter.requires_grad for parameter in lm.network.parameters())
    tuned = germinal.load(folder)
    assert tuned.network.dtype == torch.bfloat16
    name = "encoder.layers.0.attention_norm.bias"
    assert not torch.equal(tuned.network.state_dict()[name], before[name])  # trained, and not in bfloat16's steps


def timeless(folder: Path) -> list[Record]:
    return [replace(record, seconds=0.0) for record in read_history(folder)]


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[4])
import germinal
from pathlib import Path
from test_classification import LABELS, QUICK, examples_of
from germinal.training.classification import tune_classifier
def report(progress):
    if progress.done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
lm = germinal.load(sys.argv[1])
tune_classifier(lm, examples_of(lm), LABELS, QUICK, Path(sys.argv[2]), report)
"""


def run_killed_at(step: int, encoder: Path, folder: Path) -> int:
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {str(Path(here).parent)!r})" + KILLED
    return subprocess.run([sys.executable, "-c", code, encoder, folder, str(step), here], check=False).returncode


def test_killed_twice_and_resumed_is_bitwise_the_unbroken_run(encoder: Path, tmp_path: Path) -> None:
    assert [run_killed_at(step, encoder, tmp_path / "run") for step in (3, 5, 0)] == [-9, -9, 0]
    lm = germinal.load(encoder)
    quiet = tune_classifier(lm, examples_of(lm), LABELS, QUICK, tmp_path / "quiet")
    assert timeless(tmp_path / "run") == timeless(tmp_path / "quiet")
    for file in sorted(quiet.iterdir()):
        assert file.read_bytes() == (tmp_path / "run" / "model" / file.name).read_bytes(), file.name
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_run_that_is_over_is_not_done_again(encoder: Path, tmp_path: Path) -> None:
    lm = germinal.load(encoder)
    told: list[object] = []
    first = tune_classifier(lm, examples_of(lm), LABELS, QUICK, tmp_path / "run", told.append)
    assert len(told) == json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 6
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    again = tune_classifier(lm, examples_of(lm), LABELS, QUICK, tmp_path / "run", told.append)
    assert (again, len(told), (first / "model.safetensors").stat().st_mtime_ns) == (first, 6, stamp)
    with pytest.raises(SettingError, match=r"learning_rate was 0\.005, now 0\.1"):
        tune_classifier(lm, examples_of(lm), LABELS, replace(QUICK, learning_rate=0.1), tmp_path / "run")


@pytest.mark.parametrize(
    ("wrong", "labels", "error", "message"),
    [
        ([], LABELS, DataError, "there are no examples"),
        ([ClassExample((), 0)], LABELS, DataError, "training example 0: has no tokens"),
        ([ClassExample((5, 6), 3)], LABELS, DataError, "is of class 3 of 3"),
        ([ClassExample((5, 6), -1)], LABELS, DataError, "is of class -1 of 3"),
        ([ClassExample((5, 6), 0)], LABELS[:1], DataError, "at least two are needed, and there are 1"),
        ([ClassExample((5,) * 80, 0), ClassExample((5,) * 81, 0)], LABELS, ContextWindowError, "example 1: has 81 tok"),
    ],
)
def test_what_cannot_be_learned_from_is_said_before_anything_is_trained(
    encoder: Path, tmp_path: Path, wrong: list[ClassExample], labels: tuple[str, ...], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        tune_classifier(germinal.load(encoder), wrong, labels, QUICK, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_decoder_gets_no_head(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"has a decoder architecture.*Only encoders.*LoRA"):
        tune_classifier(germinal.load(llama_folder), [ClassExample((5,), 0)], LABELS, QUICK, tmp_path / "run")


def test_a_learning_rate_that_explodes_is_told(encoder: Path, tmp_path: Path) -> None:
    lm = germinal.load(encoder)
    with pytest.raises(TrainingError, match="lower learning rate"):
        tune_classifier(lm, examples_of(lm), LABELS, replace(QUICK, learning_rate=1e30), tmp_path / "run")
