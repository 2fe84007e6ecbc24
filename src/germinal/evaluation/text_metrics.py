"""Text metrics: answers against one reference each.

- `rouge1`, `rouge2`, `rougeL`, `rougeLsum` (Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries): mean of
  rouge-score's F over the rows, 0 to 1, with that package's defaults: no stemmer, and words are runs of a-z and 0-9, so
  that a text in another script has none. rougeLsum treats each line as a sentence.
- `bleu` (Papineni et al. 2002): sacrebleu's corpus BLEU, 0 to 100, from n-gram counts summed over rows.
- `chrf` (Popović 2015): sacrebleu's corpus chrF, 0 to 100, from character n-gram counts summed over rows.
- `exact_match`: share of rows that equal the reference in one normal form (`germinal.data.normal_forms.comparable`):
  Unicode's NFC, every run of blanks as one space, none at the ends, no unseen characters.
- `token_f1`: mean F of words over rows, of texts in that form, normalized further as in SQuAD 2.0 (Rajpurkar et al.
  2018): case, punctuation and English articles do not count.

A failed answer counts as an empty text. The features of a pair of texts are cached, because intervals and tests need
them again.

Shapes: N rows, F features.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from germinal.data.normal_forms import comparable
from germinal.evaluation.metric import FloatArray, Metric, by_sums, mean
from germinal.evaluation.sample import Sample

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

_WORD_ORDER = 4  # of BLEU's n-grams
_CHARACTER_ORDER = 6  # of chrF's
_BETA = 2  # weight of recall relative to precision in chrF
_PAIRS_KEPT = 16_384


def _answer_texts(sample: Sample) -> list[str]:
    return ["" if prediction is None else prediction for prediction in sample.predictions]


def _of_pairs(of_pair: Callable[[str, str], tuple[float, ...]]) -> Callable[[Sample], FloatArray]:
    """A function that gives the features of a sample, [N, F], from those of each pair of target and answer."""

    def features(sample: Sample) -> FloatArray:
        pairs = zip(sample.targets, _answer_texts(sample), strict=True)
        return np.array([of_pair(target, said) for target, said in pairs], dtype=np.float64)

    return features


# ROUGE: the features are rouge-score's F of the row, and 1.


@cache
def _rouge_scorer(name: str) -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([name])


@lru_cache(_PAIRS_KEPT)
def _rouge_score(name: str, target: str, said: str) -> float:
    return float(_rouge_scorer(name).score(target, said)[name].fmeasure)


def _rouge(name: str, title: str) -> Metric:
    def of_pair(target: str, said: str) -> tuple[float, ...]:
        return _rouge_score(name, target, said), 1.0

    features = _of_pairs(of_pair)

    def point(sample: Sample) -> float:
        return float(features(sample)[:, 0].mean())

    def settings() -> str:
        return f"rouge-score {version('rouge-score')}, mean F, default tokenizer, no stemmer"

    return _text_metric(name, title, 1, point, features, mean, library="rouge-score", settings=settings)


# BLEU: the features are the lengths of answer and reference, and the matching and all n-grams of each order.


@cache
def _bleu(effective_order: bool = False) -> BLEU:
    from sacrebleu.metrics.bleu import BLEU

    # "force" only suppresses a warning about texts that look tokenized already.
    return BLEU(tokenize="13a", max_ngram_order=_WORD_ORDER, effective_order=effective_order, force=True)


@lru_cache(_PAIRS_KEPT)
def _bleu_counts(target: str, said: str) -> tuple[float, ...]:
    score = _bleu(effective_order=True).sentence_score(said, [target])
    return (score.sys_len, score.ref_len, *score.counts, *score.totals)


def _bleu_point(sample: Sample) -> float:
    score = _bleu().corpus_score(_answer_texts(sample), [list(sample.targets)]).score
    return min(100.0, float(score))  # rounding may give 100.00000000000004


def _bleu_of_sums(sums: FloatArray) -> FloatArray:
    return _bleu_from(sums, effective_order=False)


def _bleu_of_row(sums: FloatArray) -> FloatArray:
    """With only the orders that the answer has; otherwise answers of fewer than four words would score 0."""
    return _bleu_from(sums, effective_order=True)


def _bleu_from(sums: FloatArray, effective_order: bool) -> FloatArray:
    answer, reference = sums[..., 0], sums[..., 1]
    matching, total = np.split(sums[..., 2:], 2, axis=-1)  # [..., 4] each
    there = total > 0
    # An order without a match counts as half a match, the next such order as a quarter (sacrebleu's "exp" smoothing).
    halvings = np.cumsum(there & (matching == 0), axis=-1)
    counted = np.where(matching > 0, matching, 0.5**halvings)
    logs = np.log(np.where(there, counted / np.where(there, total, 1), 1)).sum(-1)
    orders = np.maximum(there.sum(-1), 1) if effective_order else _WORD_ORDER
    known = (matching > 0).any(-1) & (effective_order | there.all(-1))
    brevity = np.minimum(0.0, 1 - reference / np.where(answer > 0, answer, 1))
    return np.where(known, np.minimum(100 * np.exp(brevity + logs / orders), 100), 0.0)


# chrF: the features are, for each order, the character n-grams of the answer, of the reference, and those that match.


@cache
def _chrf() -> CHRF:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(char_order=_CHARACTER_ORDER, word_order=0, beta=_BETA)


@lru_cache(_PAIRS_KEPT)
def _chrf_counts(target: str, said: str) -> tuple[float, ...]:
    counts: list[int] = []
    for order in range(1, _CHARACTER_ORDER + 1):
        ours, theirs = _character_ngrams(said, order), _character_ngrams(target, order)
        # If the reference is too short to have any, those of the answer do not count, as in sacrebleu.
        counts += [ours.total() if theirs else 0, theirs.total(), (ours & theirs).total()]
    return tuple(counts)


def _character_ngrams(text: str, order: int) -> Counter[str]:
    letters = "".join(text.split())
    return Counter(letters[start : start + order] for start in range(len(letters) - order + 1))


def _chrf_point(sample: Sample) -> float:
    return min(100.0, float(_chrf().corpus_score(_answer_texts(sample), [list(sample.targets)]).score))


def _chrf_of_sums(sums: FloatArray) -> FloatArray:
    answer, reference, matching = (sums[..., part::3] for part in range(3))  # [..., 6] each
    there = (answer > 0) & (reference > 0)
    orders = np.maximum(there.sum(-1), 1)
    precision = np.where(there, matching / np.where(there, answer, 1), 0).sum(-1) / orders
    recall = np.where(there, matching / np.where(there, reference, 1), 0).sum(-1) / orders
    spread = _BETA**2 * precision + recall
    score = 100 * (1 + _BETA**2) * precision * recall / np.where(spread > 0, spread, 1)
    return np.asarray(np.minimum(score, 100))


def _sacrebleu_settings(metric: Callable[[], BLEU | CHRF]) -> Callable[[], str]:
    def settings() -> str:
        scorer = metric()
        scorer.corpus_score(["a"], [["a"]])  # the signature needs a number of references
        return f"sacrebleu {scorer.get_signature()}"

    return settings


# Whole answers and their words.


@lru_cache(_PAIRS_KEPT)
def _same(target: str, said: str) -> tuple[float, ...]:
    return float(comparable(target) == comparable(said)), 1.0


@lru_cache(_PAIRS_KEPT)
def _token_f1(target: str, said: str) -> tuple[float, ...]:
    wanted, given = _words(target), _words(said)
    if not wanted or not given:
        return float(wanted == given), 1.0
    shared = (Counter(wanted) & Counter(given)).total()
    return 2 * shared / (len(wanted) + len(given)), 1.0


def _words(text: str) -> list[str]:
    bare = "".join(character for character in comparable(text).lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def _text_metric(
    name: str,
    title: str,
    most: float,
    point: Callable[[Sample], float],
    features: Callable[[Sample], FloatArray],
    reduce: Callable[[FloatArray], FloatArray],
    *,
    is_proportion: bool = False,
    reduce_row: Callable[[FloatArray], FloatArray] | None = None,
    library: str | None = None,
    settings: Callable[[], str] | None = None,
) -> Metric:
    return Metric(
        name,
        title,
        higher_is_better=True,
        needs_probabilities=False,
        bounds=(0, most),
        point=point,
        features=features,
        reduce=reduce,
        is_proportion=is_proportion,
        answers="text",
        reduce_row=reduce_row,
        library=library,
        settings=settings,
    )


_COMPARED = "texts in Unicode's NFC, every run of blanks as one space, none at the ends, without characters of no width"


def _exact_settings() -> str:
    return f"{_COMPARED}; case and punctuation count"


def _token_f1_settings() -> str:
    return f"{_COMPARED}; case, punctuation and the articles a, an, the do not count, as in SQuAD 2.0"


_exact_features, _token_f1_features = _of_pairs(_same), _of_pairs(_token_f1)

TEXT_METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        _rouge("rouge1", "ROUGE-1"),
        _rouge("rouge2", "ROUGE-2"),
        _rouge("rougeL", "ROUGE-L"),
        _rouge("rougeLsum", "ROUGE-Lsum"),
        _text_metric(
            "bleu",
            "BLEU",
            100,
            _bleu_point,
            _of_pairs(_bleu_counts),
            _bleu_of_sums,
            reduce_row=_bleu_of_row,
            library="sacrebleu",
            settings=_sacrebleu_settings(_bleu),
        ),
        _text_metric(
            "chrf",
            "chrF",
            100,
            _chrf_point,
            _of_pairs(_chrf_counts),
            _chrf_of_sums,
            library="sacrebleu",
            settings=_sacrebleu_settings(_chrf),
        ),
        _text_metric(
            "exact_match",
            "Exact match",
            1,
            by_sums(_exact_features, mean),
            _exact_features,
            mean,
            is_proportion=True,
            settings=_exact_settings,
        ),
        _text_metric(
            "token_f1",
            "Token F1",
            1,
            by_sums(_token_f1_features, mean),
            _token_f1_features,
            mean,
            settings=_token_f1_settings,
        ),
    )
}
