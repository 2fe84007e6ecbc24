"""Baselines that answer with texts: what they say, against scikit-learn, and saved ones against themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from germinal.errors import CheckpointError, DataError
from germinal.evaluation.metrics import METRICS
from germinal.evaluation.sample import Sample
from germinal.predictors.answers import Answer
from germinal.predictors.baselines import BASELINES
from germinal.predictors.loading import load_predictor
from germinal.predictors.predictor import FittedPredictor
from germinal.predictors.text_baselines import CopyPredictor, LeadPredictor, NearestPredictor, first_sentence
from germinal.progress import Progress

INPUTS = [
    "Opens a file that was saved before.",
    "Saves the file under another name.",
    "Prints the page that is shown.",
    "Deletes the selected row. Rows below move up.",
]
TARGETS = ["Open", "Save As", "Print", "Delete Row"]
NEW = ["Where do I open a file?", "delete this row", "PRINTS", "", "日本", "file", "the the the"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("One. Two.", "One."),
        ("  One goes\non here! Two.", "One goes on here!"),
        ("No end of any kind", "No end of any kind"),
        ("", ""),
        (" \n ", ""),
        ("He paid 3.5 euros, i.e. all he had. Then he left.", "He paid 3.5 euros, i.e. all he had."),
        ("Dr. Who and J. R. Ewing met. It rained.", "Dr. Who and J. R. Ewing met."),
        ('She said "no." He left.', 'She said "no."'),
        ("Was it (really?) so? Yes.", "Was it (really?) so?"),
        ("Wait... there is more. Yes.", "Wait... there is more."),
        ("Voilà. Été.", "Voilà."),
        ("これは文です。次の文です。", "これは文です。"),
        ("「はい。」と言った。", "「はい。」"),
        ("A title\n\nA text. More of it.", "A title"),
        ("A title\n  \n\nA text.", "A title"),
    ],
)
def test_the_first_sentence(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="aB.!? \n\"')。é", max_size=40))
def test_a_first_sentence_is_the_start_of_the_text_on_one_line(text: str) -> None:
    sentence = first_sentence(text)
    assert " ".join(text.split()).startswith(sentence)
    assert "\n" not in sentence
    assert bool(sentence) == bool(text.strip())
    assert first_sentence(sentence) == sentence


def test_a_long_text_without_an_end_takes_no_time() -> None:
    for text in ("a " * 200_000, "x.y" * 100_000, "a.\n" * 100_000 + "b", '." ' * 100_000):
        assert first_sentence(text)


def test_lead_and_copy_say_the_input() -> None:
    train = (INPUTS, TARGETS)
    text = "Deletes the row. Rows below move up.\n"
    assert LeadPredictor.fit(*train).predict([text, ""]) == [Answer(None, "Deletes the row."), Answer(None, "")]
    assert CopyPredictor.fit(*train).predict([text]) == [Answer(None, text.strip())]


def test_nearest_is_scikit_learns_cosine() -> None:
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    rows = vectorizer.fit_transform(INPUTS)
    cosines = cosine_similarity(vectorizer.transform(NEW), rows)
    answers = NearestPredictor.fit(INPUTS, TARGETS).predict(NEW)
    for row, answer in zip(cosines, answers, strict=True):
        if row.max() > 0:
            assert answer == Answer(None, TARGETS[int(row.argmax())])
        else:
            assert (answer.text, answer.error) == ("", "no word of the input is in the training rows")
    assert [answer.text for answer in answers[:3]] == ["Open", "Delete Row", "Print"]
    assert [answer.error is not None for answer in answers] == [False, False, False, True, True, False, False]


def test_a_row_that_was_seen_gives_its_own_target_and_of_equal_ones_the_first() -> None:
    predictor = NearestPredictor.fit([*INPUTS, *INPUTS], [*TARGETS, "a", "b", "c", "d"])
    assert [answer.text for answer in predictor.predict(INPUTS)] == TARGETS


def test_many_inputs_are_answered_in_batches_and_reported() -> None:
    predictor = NearestPredictor.fit(INPUTS, TARGETS)
    reports: list[Progress] = []
    answers = predictor.predict(NEW * 20, reports.append)
    assert [report.done for report in reports] == [64, 128, 140]
    assert answers == predictor.predict(NEW) * 20
    assert predictor.predict([]) == []


@pytest.mark.parametrize("name", ["lead", "copy", "nearest"])
def test_saved_is_loaded_to_the_same_answers_and_holds_no_pickle(name: str, tmp_path: Path) -> None:
    fitted = BASELINES[name].fit(INPUTS, TARGETS)
    fitted.save(tmp_path / "saved")
    BASELINES[name].fit(INPUTS, TARGETS).save(tmp_path / "again")
    loaded = load_predictor(tmp_path / "saved")
    assert type(loaded) is BASELINES[name]
    assert loaded.predict(NEW + INPUTS) == fitted.predict(NEW + INPUTS)
    assert loaded.parameters == fitted.parameters
    files = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert files == (["model.safetensors", "predictor.json"] if name == "nearest" else ["predictor.json"])
    for file in files:
        assert (tmp_path / "saved" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_answers_are_texts_that_can_be_measured() -> None:
    for name in ("lead", "copy", "nearest"):
        answers = BASELINES[name].fit(INPUTS, TARGETS).predict(INPUTS)
        assert all(answer.label is None and answer.probabilities is None for answer in answers)
        value = METRICS["exact_match"].point(Sample.from_answers(TARGETS, answers))
        assert value == (1 if name == "nearest" else 0)


def test_nothing_to_learn_from_is_refused() -> None:
    for name in ("lead", "copy", "nearest"):
        with pytest.raises(DataError, match="no training rows"):
            BASELINES[name].fit([], [])
    with pytest.raises(DataError, match="no words"):
        NearestPredictor.fit(["!", "?"], ["a", "b"])


def test_damage_is_refused(tmp_path: Path) -> None:
    predictor = NearestPredictor.fit(INPUTS, TARGETS)

    def saved(name: str) -> Path:
        predictor.save(tmp_path / name)
        return tmp_path / name

    short = saved("short")
    content = json.loads((short / "predictor.json").read_text())
    (short / "predictor.json").write_text(json.dumps({**content, "vocabulary": content["vocabulary"][1:]}))
    fewer = saved("fewer")
    (fewer / "predictor.json").write_text(json.dumps({**content, "targets": content["targets"][1:]}))
    gone = saved("gone")
    (gone / "model.safetensors").unlink()
    wild = saved("wild")
    tensors = load_file(wild / "model.safetensors")
    indices = np.full_like(tensors["rows.indices"], 1_000_000)
    save_file({**tensors, "rows.indices": indices}, wild / "model.safetensors")
    for folder in (short, fewer, gone, wild):
        with pytest.raises(CheckpointError, match="damaged"):
            load_predictor(folder)


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_every_baseline_is_a_fitted_predictor(name: str) -> None:
    assert isinstance(BASELINES[name].fit(INPUTS, TARGETS), FittedPredictor)
