"""Baselines against scikit-learn's own pipeline, and saved ones against themselves, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from germinal.errors import CheckpointError, DataError, ModelNotFoundError, UnsupportedError
from germinal.predictors.answers import Answer
from germinal.predictors.baselines import BASELINES, MajorityPredictor, TfidfPredictor
from germinal.predictors.loading import load_predictor
from germinal.progress import Progress

GOOD = ["a warm and funny film", "I loved it, a triumph", "simply the best, moving and true", "funny, warm, wonderful"]
BAD = [
    "dull and far too long",
    "the worst, a waste of time",
    "lifeless, dull, without a plot",
    "I hated every minute of it",
]
ODD = ["what was that", "no plot and no point, strange", "a riddle, strange and long"]
NEW = ["a funny waste of time", "warm", "strange, strange, strange", "", "日本", "I loved every minute"]


def data(labels: int) -> tuple[list[str], list[str]]:
    groups = {"pos": GOOD, "neg": BAD, "odd": ODD}
    rows = [(text, label) for label in list(groups)[:labels] for text in groups[label]]
    return [text for text, _ in rows], [label for _, label in rows]


def table(answers: list[Answer]) -> list[list[float]]:
    return [list((answer.probabilities or {}).values()) for answer in answers]


@pytest.mark.parametrize("labels", [2, 3])
def test_tfidf_is_scikit_learns_pipeline(labels: int) -> None:
    inputs, targets = data(labels)
    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b"),
        LogisticRegression(C=10, max_iter=1000),
    ).fit(inputs, targets)
    answers = TfidfPredictor.fit(inputs, targets).predict(NEW)
    assert table(answers) == pipeline.predict_proba(NEW).tolist()
    assert [answer.label for answer in answers] == pipeline.predict(NEW).tolist()
    assert list(answers[0].probabilities or {}) == sorted(set(targets))
    assert all(answer.text == answer.label and answer.error is None for answer in answers)


def test_tfidf_learns_what_it_can() -> None:
    inputs, targets = data(3)
    answers = TfidfPredictor.fit(inputs, targets).predict(inputs)
    assert [answer.label for answer in answers] == targets


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("name", ["majority", "tfidf"])
def test_saved_is_loaded_bit_for_bit_and_holds_no_pickle(name: str, labels: int, tmp_path: Path) -> None:
    fitted = BASELINES[name].fit(*data(labels))
    fitted.save(tmp_path / "saved")
    loaded = load_predictor(tmp_path / "saved")
    assert type(loaded) is BASELINES[name]
    assert loaded.predict(NEW) == fitted.predict(NEW)
    assert loaded.parameters == fitted.parameters > 0
    again = BASELINES[name].fit(*data(labels))
    again.save(tmp_path / "again")
    files = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert files == (["predictor.json"] if name == "majority" else ["model.safetensors", "predictor.json"])
    for file in files:
        assert (tmp_path / "saved" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_majority_says_the_most_frequent_label_and_how_frequent() -> None:
    answers = MajorityPredictor.fit(["", "", "", ""], ["b", "a", "b", "c"]).predict(["x", "y"])
    assert answers == [Answer("b", "b", {"a": 0.25, "b": 0.5, "c": 0.25})] * 2
    assert MajorityPredictor.fit(["", ""], ["b", "a"]).predict([""])[0].label == "a"
    assert MajorityPredictor.fit(["", ""], ["b", "a"]).predict([]) == []


def test_many_inputs_are_answered_in_batches_and_reported() -> None:
    predictor = TfidfPredictor.fit(*data(2))
    reports: list[Progress] = []
    answers = predictor.predict(NEW * 400, reports.append)
    assert [report.done for report in reports] == [1024, 2048, 2400]
    assert answers == predictor.predict(NEW) * 400


def test_nothing_to_learn_from_is_refused() -> None:
    for baseline in BASELINES.values():
        with pytest.raises(DataError, match="no training rows"):
            baseline.fit([], [])
    with pytest.raises(DataError, match="all training rows have the label 'a'"):
        TfidfPredictor.fit(["x", "y"], ["a", "a"])
    with pytest.raises(DataError, match="no words"):
        TfidfPredictor.fit(["!", "?"], ["a", "b"])


def test_a_folder_without_a_predictor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no saved predictor.*predictor\.json"):
        load_predictor(tmp_path)


def change(folder: Path, edit: Callable[[dict[str, object]], object]) -> None:
    content = json.loads((folder / "predictor.json").read_text())
    edit(content)
    (folder / "predictor.json").write_text(json.dumps(content))


def test_damage_is_refused(tmp_path: Path) -> None:
    predictor = TfidfPredictor.fit(*data(2))

    def saved(name: str) -> Path:
        predictor.save(tmp_path / name)
        return tmp_path / name

    cut = saved("cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-8])
    gone = saved("gone")
    (gone / "model.safetensors").unlink()
    lacking = saved("lacking")
    change(lacking, lambda content: content.pop("vocabulary"))
    short = saved("short")
    change(short, lambda content: content["vocabulary"].pop())  # type: ignore[attr-defined]
    garbled = saved("garbled")
    (garbled / "predictor.json").write_text('{"format": ')
    for folder in (cut, gone, lacking, short, garbled):
        with pytest.raises(CheckpointError, match=r"damaged|not valid JSON"):
            load_predictor(folder)


def test_what_a_newer_version_wrote_is_refused_by_name(tmp_path: Path) -> None:
    MajorityPredictor.fit(["", ""], ["b", "a"]).save(tmp_path / "saved")
    change(tmp_path / "saved", lambda content: content.update(kind="oracle"))
    with pytest.raises(UnsupportedError, match="'oracle'"):
        load_predictor(tmp_path / "saved")
    change(tmp_path / "saved", lambda content: content.update(format=2))
    with pytest.raises(UnsupportedError, match="format 2"):
        load_predictor(tmp_path / "saved")


def test_probabilities_are_plain_numbers() -> None:
    for name in ("majority", "tfidf"):
        (answer,) = BASELINES[name].fit(*data(2)).predict(["warm"])
        assert json.loads(json.dumps(answer.to_json()))["probabilities"] == answer.probabilities
        assert sum((answer.probabilities or {}).values()) == pytest.approx(1)
        assert not any(isinstance(value, np.generic) for value in (answer.probabilities or {}).values())
