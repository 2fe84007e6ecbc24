"""`embed`, `classify` and `fill-mask` on tiny encoders."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_encoders import TEXTS, save_encoder

import germinal as package

Germinal = Callable[..., Any]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"), "BertForMaskedLM")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = {0: "bad", 1: "good"}
    folder = tmp_path_factory.mktemp("classifier")
    return save_encoder(folder, "BertForSequenceClassification", id2label=names, label2id={"bad": 0, "good": 1})


def test_embed_shows_cosines_and_angles(germinal: Germinal, encoder: Path) -> None:
    done = germinal("embed", encoder, *TEXTS[:3])
    assert done.code == 0
    vectors = package.load(encoder).encode(TEXTS[:3], normalize=True)
    rows, shown = done.out.splitlines(), [text[:40] for text in TEXTS[:3]]
    for left, right in ((0, 1), (0, 2), (1, 2)):
        cosine = float(vectors[left] @ vectors[right])
        (row,) = (line for line in rows if line.startswith(shown[left]) and shown[right] in line)
        assert row.split()[-2:] == [f"{cosine:.3f}", f"{math.degrees(math.acos(cosine)):.1f}°"]
    assert "24 numbers" in done.out


def test_embed_gives_vectors_as_json_and_reads_lines(germinal: Germinal, encoder: Path) -> None:
    done = germinal(
        "embed", encoder, "-", "--json", "--pooling", "first", "--normalize", stdin="\n".join(TEXTS) + "\n\n"
    )
    found = json.loads(done.out)
    assert [each["text"] for each in found] == TEXTS
    expected = package.load(encoder).encode(TEXTS, "first", normalize=True)
    np.testing.assert_allclose([each["vector"] for each in found], expected, atol=1e-6)


def test_classify_shows_the_likeliest_first(germinal: Germinal, classifier: Path) -> None:
    expected = package.load(classifier).classify(TEXTS[0])
    shown = germinal("classify", classifier, TEXTS[0]).out
    assert shown.index(expected.label) < shown.index(({"good", "bad"} - {expected.label}).pop())
    assert f"{expected.probabilities['good']:.3f}" in shown
    as_json = json.loads(germinal("classify", classifier, "-", "--json", stdin=TEXTS[0]).out)
    assert as_json["probabilities"] == pytest.approx(expected.probabilities)
    pair = json.loads(germinal("classify", classifier, TEXTS[0], "--pair", TEXTS[1], "--json").out)
    expected_pair = package.load(classifier).classify((TEXTS[0], TEXTS[1]))
    assert pair["probabilities"] == pytest.approx(expected_pair.probabilities)


def test_classify_shows_spans_answers_and_regressions(
    germinal: Germinal, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def folder(kind: str, **config: Any) -> Path:
        return save_encoder(tmp_path_factory.mktemp("model"), kind, **config)

    tagger = folder("BertForTokenClassification", num_labels=3)
    spans = package.load(tagger).classify(TEXTS[0]).spans
    shown = germinal("classify", tagger, TEXTS[0]).out
    assert all(f"{span.start}-{span.end}" in shown and span.label in shown for span in spans)
    assert f"{len(spans)} spans" in shown
    reader = folder("DistilBertForQuestionAnswering")
    answer = package.load(reader).answer("What?", TEXTS[0])
    shown = germinal("classify", reader, TEXTS[0], "--question", "What?").out
    assert shown.startswith(f"{answer.text}\n")
    assert shown.endswith(f"from a model that learned to say so: {answer.no_answer:.3f}\n")
    regression = folder("RobertaForSequenceClassification", num_labels=1, problem_type="regression")
    value = package.load(regression).classify(TEXTS[0]).value
    assert germinal("classify", regression, TEXTS[0]).out == f"{value:.4f}\n"


def test_fill_mask_shows_the_likeliest_words(germinal: Germinal, encoder: Path) -> None:
    text = "A [MASK] film that is [MASK]."
    expected = package.load(encoder).fill_mask(text, 3)
    shown = germinal("fill-mask", encoder, text, "--top-k", 3).out
    assert "mask 2 of 2" in shown
    for words in expected:
        for each in words:
            assert each.text in shown
            assert f"{each.probability:.3f}" in shown
    as_json = json.loads(germinal("fill-mask", encoder, "-", "--json", stdin=text).out)
    assert [words[0]["token_id"] for words in as_json] == [words[0].token_id for words in expected]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("generate", "encoder", "A film"), 13, "masked-language-model head"),
        (("classify", "encoder", "A film"), 13, "cannot classify"),
        (("fill-mask", "classifier", "A [MASK]"), 13, "cannot fill masks"),
        (("fill-mask", "encoder", "A film"), 12, "Write [MASK]"),
        (("embed", "encoder", "A film", "--pooling", "meen"), 12, "Did you mean 'mean'"),
        (("classify", "classifier", "A film", "--pair", "b", "--question", "c"), 12, "--pair"),
        (("classify", "classifier", "film " * 200), 11, "tokens"),
        (("embed", "encoder"), 2, "TEXT"),
    ],
)
def test_what_cannot_be_is_refused(
    germinal: Germinal, encoder: Path, classifier: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    folders = {"encoder": encoder, "classifier": classifier}
    done = germinal(*(folders.get(argument, argument) for argument in arguments))
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    file = tmp_path / "labelled.csv"
    rows = [f'"{text[:20]}",{"good" if place % 2 else "bad"}' for place, text in enumerate(TEXTS * 4)]
    file.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    return file


def test_tune_gives_an_encoder_a_head_that_classify_reads(
    germinal: Germinal, encoder: Path, labelled: Path, tmp_path: Path
) -> None:
    arguments = ("tune", encoder, "--data", labelled, "--input", "text", "--target", "label", "--epochs", 2)
    done = germinal(*arguments, "-o", tmp_path / "clf")
    assert done.code == 0, done.err
    assert "steps on 20 examples" in done.out
    assert f"Model of 2 classes: {tmp_path / 'clf' / 'model'}" in done.out
    assert json.loads((tmp_path / "clf" / "run.json").read_text())["learning_rate"] == 5e-5
    expected = package.load(tmp_path / "clf" / "model").classify(TEXTS[0])
    shown = json.loads(germinal("classify", tmp_path / "clf" / "model", TEXTS[0], "--json").out)
    assert shown["probabilities"] == pytest.approx(expected.probabilities)
    again = germinal(*arguments, "-o", tmp_path / "clf")
    assert (again.code, again.out) == (0, done.out)


@pytest.mark.parametrize("option", [("--instruction", "Classify:"), ("--rank", 8), ("--chat",), ("--dropout", 0.1)])
def test_tune_refuses_what_is_nothing_to_an_encoder(
    germinal: Germinal, encoder: Path, labelled: Path, tmp_path: Path, option: tuple[object, ...]
) -> None:
    arguments = ("--data", labelled, "--input", "text", "--target", "label", "-o", tmp_path / "clf", *option)
    done = germinal("tune", encoder, *arguments)
    assert done.code == 12
    assert f"{str(option[0]).removeprefix('--')}: has no effect on an encoder" in done.err
    assert not (tmp_path / "clf").exists()
