"""Metrics of texts against rouge-score and sacrebleu, as functions of sums, and with their intervals and tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import fmean
from time import process_time

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from scipy import stats

from germinal.evaluation.evaluator import compare, estimate
from germinal.evaluation.intervals import bootstrap, wilson
from germinal.evaluation.label_metrics import LABEL_METRICS
from germinal.evaluation.metrics import METRICS, libraries_of
from germinal.evaluation.sample import Sample
from germinal.evaluation.scripts import cautions
from germinal.evaluation.selection import choose
from germinal.evaluation.significance import mcnemar_exact, paired_permutation
from germinal.evaluation.text_metrics import TEXT_METRICS
from germinal.predictors.answers import Answer

MakeTexts = Callable[..., Sample]
DATASETS = 1_000

words = st.sampled_from(
    ["the", "cat", "cats", "sat.", "On", "a", "mat", "3.5", "été", "猫", "it's", "&quot;", "-", "\n"]
)
texts = st.one_of(st.lists(words, max_size=12).map(" ".join), st.text(max_size=12))
pairs = st.one_of(st.tuples(texts, texts), texts.map(lambda text: (text, text)))
rows = st.lists(st.tuples(pairs, st.sampled_from([False, False, False, True])), min_size=1, max_size=8)


def sample_of(drawn: list[tuple[tuple[str, str], bool]]) -> Sample:
    targets = tuple(target for (target, _), _ in drawn)
    return Sample((), targets, tuple(None if failed else said for (_, said), failed in drawn))


def library_figure(name: str, sample: Sample) -> float:
    """What the field's library says, asked the way its own documentation does."""
    targets, said = list(sample.targets), [text or "" for text in sample.predictions]
    if name == "bleu":
        return sacrebleu.corpus_bleu(said, [targets]).score
    if name == "chrf":
        return sacrebleu.corpus_chrf(said, [targets]).score
    scorer = RougeScorer([name])
    return fmean(scorer.score(target, text)[name].fmeasure for target, text in zip(targets, said, strict=True))


@settings(max_examples=300, deadline=None)
@given(rows)
def test_points_and_sums_are_the_libraries_figures(drawn: list[tuple[tuple[str, str], bool]]) -> None:
    sample = sample_of(drawn)
    for name, metric in TEXT_METRICS.items():
        by_sums = float(metric.reduce(metric.features(sample).sum(0)))
        assert by_sums == pytest.approx(metric.point(sample), abs=1e-9), name
        assert metric.bounds[0] <= by_sums <= metric.bounds[1]
        assert metric.bounds[0] <= metric.point(sample) <= metric.bounds[1]
        if metric.library:
            assert by_sums == pytest.approx(library_figure(name, sample), abs=1e-9), name


@settings(max_examples=200, deadline=None)
@given(rows)
def test_a_rows_figure_is_the_libraries_for_a_sentence(drawn: list[tuple[tuple[str, str], bool]]) -> None:
    sample = sample_of(drawn)
    said = [text or "" for text in sample.predictions]
    for name, metric in TEXT_METRICS.items():
        alone = metric.of_rows(sample)
        for row, (target, text) in enumerate(zip(sample.targets, said, strict=True)):
            if name == "bleu":
                expected = sacrebleu.sentence_bleu(text, [target]).score
            elif name == "chrf":
                expected = sacrebleu.sentence_chrf(text, [target]).score
            else:
                expected = metric.point(Sample((), (target,), (text,)))
            assert alone[row] == pytest.approx(expected, abs=1e-9), name


@pytest.mark.parametrize("name", TEXT_METRICS)
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("", ""),
        ("", "cat"),
        ("cat", ""),
        ("cat", None),
        ("cat", "cat"),
        ("cat", "Cat."),
        ("猫が座った", "猫が座った"),
        ("Été à l’œuvre", "été à l'œuvre"),
        ("🙂", "🙂"),
        ("one\ntwo", "one two"),
        ("...", "..."),
        ("the", "a"),
    ],
)
def test_odd_texts(name: str, target: str, said: str | None) -> None:
    metric, sample = METRICS[name], Sample((), (target,), (said,))
    if metric.library:
        assert metric.point(sample) == pytest.approx(library_figure(name, sample), abs=1e-9)
    assert float(metric.reduce(metric.features(sample).sum(0))) == pytest.approx(metric.point(sample), abs=1e-9)


@pytest.mark.parametrize(
    ("target", "said", "f1"),
    [
        # By the rules of SQuAD 2.0: case, punctuation and articles do not count; no answer is right where none is.
        ("The Denver Broncos", "denver broncos!", 1.0),
        ("Denver Broncos", "the Broncos", 2 / 3),
        ("in the 1990s", "1990s", 2 / 3),
        ("a b c", "c c b d", 4 / 6),
        ("gold and gold", "gold", 1 / 2),
        ("U.S.", "us", 1.0),
        ("cat", "dog", 0.0),
        ("", "", 1.0),
        ("", "the", 1.0),
        ("", "cat", 0.0),
        ("cat", "", 0.0),
    ],
)
def test_token_f1_is_squads(target: str, said: str, f1: float) -> None:
    assert METRICS["token_f1"].point(Sample((), (target,), (said,))) == pytest.approx(f1)


def test_exact_match_strips_and_no_more() -> None:
    sample = Sample((), ("Paris", "Paris", "Paris", "Paris"), (" Paris\n", "paris", "Paris.", None))
    assert METRICS["exact_match"].point(sample) == 0.25


def test_a_failed_answer_is_an_empty_text(make_texts: MakeTexts) -> None:
    sample = make_texts(1, failing=0.3)
    empty = replace(sample, predictions=tuple(text or "" for text in sample.predictions))
    nothing = replace(sample, predictions=(None,) * len(sample))
    assert None in sample.predictions
    for metric in TEXT_METRICS.values():
        assert metric.point(sample) == metric.point(empty)
        assert metric.point(nothing) == 0


def test_a_perfect_answer_has_the_greatest_value(make_texts: MakeTexts) -> None:
    sample = make_texts(2)
    perfect = replace(sample, predictions=sample.targets)
    for name, metric in TEXT_METRICS.items():
        if name != "rouge2":  # a text of one word has no pair
            assert metric.point(perfect) == pytest.approx(metric.bounds[1])
        found = estimate(name, [perfect], draws=500)
        assert found.low < found.high, name  # and sixty rows do not make it certain
        assert found.high == pytest.approx(found.value) or name == "rouge2"


def test_many_sums_at_once_are_each_alone(make_texts: MakeTexts) -> None:
    samples = [make_texts(seed, skill=skill) for seed, skill in enumerate([0.02, 0.3, 0.6, 0.9])]
    for metric in TEXT_METRICS.values():
        sums = np.stack([metric.features(sample).sum(0) for sample in samples])
        assert metric.reduce(sums).tolist() == pytest.approx([metric.point(sample) for sample in samples])


def test_samples_of_texts_are_made_of_answers() -> None:
    answers = [Answer(None, "Open a file"), Answer(None, ""), Answer(None, "half", error="the server went away")]
    sample = Sample.from_answers(["Open", "Save", "Print"], answers)
    assert sample.predictions == ("Open a file", "", None)
    assert (sample.labels, sample.probabilities) == ((), None)


def test_metrics_have_figures_of_the_answers_they_are_for(make_texts: MakeTexts) -> None:
    of_texts, of_labels = make_texts(0), Sample(("pos", "neg"), ("pos",), ("neg",))
    assert all(metric.has_figure(of_texts) and not metric.has_figure(of_labels) for metric in TEXT_METRICS.values())
    assert not any(metric.has_figure(of_texts) for metric in LABEL_METRICS.values())


def test_settings_and_libraries_are_said() -> None:
    assert "no stemmer" in _settings("rougeL")
    assert _settings("bleu").startswith("sacrebleu nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert _settings("chrf").startswith("sacrebleu nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")
    assert libraries_of(["accuracy", "f1_macro"]) == ("numpy", "scikit-learn", "scipy")
    assert libraries_of(["bleu", "rouge1", "chrf"])[3:] == ("rouge-score", "sacrebleu")


@pytest.mark.parametrize(
    ("references", "cautioned"),
    [
        (["The file is opened.", "Ouvre un fichier qui a été enregistré."], ""),
        (["Το αρχείο ανοίγει.", "The file"], "rouge1, rougeL"),
        (["文件已打开", "打开 the file"], "rouge1, rougeL and bleu"),
        (["12 3.5", ""], ""),
    ],
)
def test_metrics_that_do_not_see_a_script_say_so(references: list[str], cautioned: str) -> None:
    metrics = ("rouge1", "rougeL", "bleu", "chrf", "exact_match")
    said = [sentence.split(" counts ")[0] for sentence in cautions(metrics, references)]
    assert " and ".join(said) == cautioned
    # What is said is so: where the script is not seen, a right answer and a wrong one have the same figure.
    if "rouge" in cautioned:
        right, wrong = (METRICS["rouge1"].point(Sample((), (references[0],), (text,))) for text in (references[0], ""))
        assert right == wrong == 0


def _settings(name: str) -> str:
    settings_of = METRICS[name].settings
    assert settings_of is not None
    return settings_of()


def test_intervals_are_wilsons_for_shares_and_the_bootstraps_for_the_rest(make_texts: MakeTexts) -> None:
    sample = make_texts(3, skill=0.9)
    for name, metric in TEXT_METRICS.items():
        found = estimate(name, [sample], draws=2_000)
        assert found.low < found.value < found.high
        assert found.value == metric.point(sample)
        assert found.method == ("Wilson" if name == "exact_match" else "bootstrap")
    share = METRICS["exact_match"].point(sample)
    exact = estimate("exact_match", [sample])
    assert (exact.low, exact.high) == wilson(round(share * 60), 60)
    clusters = tuple(str(row // 3) for row in range(60))
    assert estimate("bleu", [replace(sample, clusters=clusters)], draws=500).method == "clustered bootstrap"


def test_a_better_candidate_is_told_apart_and_an_equal_one_is_not(make_texts: MakeTexts) -> None:
    good, alike, bad = (
        make_texts(14, 200, skill=0.8),
        make_texts(14, 200, skill=0.8, other=1),
        make_texts(14, 200, skill=0.5),
    )
    for name in TEXT_METRICS:
        found = compare(name, [good], [bad], draws=2_000)
        assert found.p_value < 0.01, name
        assert 0 < found.low < found.difference < found.high
        assert found.difference == pytest.approx(METRICS[name].point(good) - METRICS[name].point(bad))
        even = compare(name, [good], [alike], draws=2_000)
        assert even.p_value > 0.05, name
        assert even.low < 0 < even.high
        same = compare(name, [good], [good], draws=200)
        assert (same.difference, same.p_value) == (0, 1), name
        assert same.low is None or -0.02 < same.low < 0 < same.high < 0.02, name
    exact = compare("exact_match", [good], [bad])
    rights = [[text == target for text, target in zip(s.predictions, s.targets, strict=True)] for s in (good, bad)]
    only = [sum(one and not other for one, other in zip(*sides, strict=True)) for sides in (rights, rights[::-1])]
    assert (exact.test, exact.only_first, exact.only_second) == ("exact McNemar", *only)
    assert exact.p_value == mcnemar_exact(*only)


def test_the_cheapest_of_those_that_cannot_be_told_apart_is_proposed(make_texts: MakeTexts) -> None:
    candidates = {
        "big": [make_texts(5, 150, skill=0.8)],
        "few-shot": [make_texts(5, 150, skill=0.8, other=number) for number in (1, 2, 3)],
        "poor": [make_texts(5, 150, skill=0.3)],
    }
    for name in ("rougeL", "bleu", "chrf"):
        choice = choose(name, candidates, {"big": 8.0, "few-shot": 1.0, "poor": 0.1}, draws=1_000)
        assert (set(choice.tied), choice.proposed) == ({"big", "few-shot"}, "few-shot"), name


@pytest.mark.parametrize("name", ["bleu", "chrf"])  # the others are means, whose simulations are elsewhere
def test_the_bootstrap_covers(make_texts: MakeTexts, name: str) -> None:
    metric = METRICS[name]
    population = metric.features(make_texts(6, 2_000))
    truth = float(metric.reduce(population.sum(0)))
    rng = np.random.default_rng(7)
    hits = 0
    for seed in range(DATASETS):
        drawn = population[rng.integers(len(population), size=120)]
        low, high = bootstrap(drawn, metric.reduce, draws=800, seed=seed)
        hits += low <= truth <= high
    lowest, highest = stats.binom.interval(0.99, DATASETS, 0.95)
    assert lowest <= hits <= highest


@pytest.mark.parametrize("name", ["bleu", "chrf"])  # the others are means, whose simulations are elsewhere
def test_the_permutation_test_raises_no_false_alarms(make_texts: MakeTexts, name: str) -> None:
    metric = METRICS[name]
    one, other = (metric.features(make_texts(8, 2_000, other=number)) for number in (0, 1))
    rng = np.random.default_rng(9)
    alarms = 0
    for seed in range(DATASETS):
        picked, swapped = rng.integers(len(one), size=80), (rng.random(80) < 0.5)[:, None]
        first = np.where(swapped, one[picked], other[picked])
        second = np.where(swapped, other[picked], one[picked])
        alarms += paired_permutation(first, second, metric.reduce, draws=499, seed=seed).p_value <= 0.05
    assert alarms <= stats.binom.ppf(0.995, DATASETS, 0.05)
    assert alarms > 0.03 * DATASETS


def test_ten_thousand_draws_of_bleu_take_about_a_second(make_texts: MakeTexts) -> None:
    features = METRICS["bleu"].features(make_texts(10, 300))
    started = process_time()
    bootstrap(features, METRICS["bleu"].reduce)
    assert process_time() - started < 3  # about 0.3 s on an idle core
