"""Classification metrics: scikit-learn's value for a sample, and the same as a function of sums over rows.

Accuracy is a function of the number of right answers, macro-F1 of the confusion matrix, calibration error of the bins'
totals.

Shapes: N rows, L labels, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from germinal.evaluation.metric import FloatArray, Metric, by_sums, divided, mean, with_count
from germinal.evaluation.sample import Sample

_FAILED = "\x00failed"  # replaces None for scikit-learn; no label read from a file equals it
_SMALLEST = float(np.finfo(np.float64).eps)  # scikit-learn's clip of probabilities
_BINS = 15


# Shares and means over rows: the features are the row's score and 1.


def _correct(sample: Sample) -> FloatArray:
    pairs = zip(sample.targets, sample.predictions, strict=True)
    return np.array([target == prediction for target, prediction in pairs], dtype=np.float64)  # [N]


def _losses(sample: Sample) -> FloatArray:
    right = (_probabilities(sample) * _one_hot(sample)).sum(-1)  # [N]
    return np.asarray(-np.log(np.clip(right, _SMALLEST, 1 - _SMALLEST)))


def _squared_errors(sample: Sample) -> FloatArray:
    return np.asarray(((_probabilities(sample) - _one_hot(sample)) ** 2).sum(-1) / 2)  # [N]


# Functions of the confusion matrix: the features are its cells, with an extra column for failed answers.


def _cells(sample: Sample) -> FloatArray:
    width = len(sample.labels) + 1
    column = {label: index for index, label in enumerate(sample.labels)} | {None: width - 1}
    pairs = zip(sample.targets, sample.predictions, strict=True)
    features = np.zeros((len(sample), (width - 1) * width))  # [N, L * (L + 1)]
    features[np.arange(len(sample)), [column[target] * width + column[answer] for target, answer in pairs]] = 1
    return features


def _confusion(sums: FloatArray) -> FloatArray:
    labels = (math.isqrt(1 + 4 * sums.shape[-1]) - 1) // 2  # F = L * (L + 1)
    return sums.reshape(*sums.shape[:-1], labels, labels + 1)  # [..., L, L + 1]


def _margins(sums: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """True positives, support and predicted count of each label: [..., L] each."""
    confusion = _confusion(sums)
    true_positives = np.diagonal(confusion[..., :-1], axis1=-2, axis2=-1)
    return true_positives, confusion.sum(-1), confusion.sum(-2)[..., :-1]


def _f1_macro(sums: FloatArray) -> FloatArray:
    true_positives, support, predicted = _margins(sums)
    return _mean_where(2 * true_positives, support + predicted)


def _f1_micro(sums: FloatArray) -> FloatArray:
    true_positives, support, predicted = (part.sum(-1) for part in _margins(sums))
    return divided(2 * true_positives, support + predicted)


def _balanced_accuracy(sums: FloatArray) -> FloatArray:
    true_positives, support, _ = _margins(sums)
    return _mean_where(true_positives, support)


def _matthews(sums: FloatArray) -> FloatArray:
    true_positives, support, predicted = _margins(sums)
    rows = support.sum(-1)
    failed = rows - predicted.sum(-1)
    covariance = true_positives.sum(-1) * rows - (support * predicted).sum(-1)
    spread = (rows**2 - (predicted**2).sum(-1) - failed**2) * (rows**2 - (support**2).sum(-1))
    return np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)


def _mean_where(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Mean of the quotients over the labels with a nonzero denominator: those that occur."""
    seen = denominator > 0
    quotients = np.where(seen, numerator / np.where(seen, denominator, 1), 0.0)
    return divided(quotients.sum(-1), seen.sum(-1).astype(np.float64))


# Calibration error: the features are the confidence and the right answers in each bin of confidence, and 1.


def _bins(sample: Sample) -> FloatArray:
    confidence = _probabilities(sample).max(-1)  # [N]
    one_hot = np.eye(_BINS)[np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)]  # [N, bins]
    sums = [one_hot * confidence[:, None], one_hot * _correct(sample)[:, None], np.ones((len(sample), 1))]
    return np.concatenate(sums, axis=-1)  # [N, 2 * bins + 1]


def _calibration_error(sums: FloatArray) -> FloatArray:
    gaps = np.abs(sums[..., :_BINS] - sums[..., _BINS:-1]).sum(-1)
    return divided(gaps, sums[..., -1])


# The arguments of scikit-learn's functions.


def _probabilities(sample: Sample) -> FloatArray:
    """[N, L]. A failed answer counts as probability 1 for a wrong label."""
    if sample.probabilities is None:
        raise ValueError("the sample has no probabilities")
    wrong = {label: sample.labels[index - 1] for index, label in enumerate(sample.labels)}
    rows = [
        [float(label == wrong[target]) for label in sample.labels]
        if row is None
        else [row[label] for label in sample.labels]
        for target, row in zip(sample.targets, sample.probabilities, strict=True)
    ]
    return np.array(rows, dtype=np.float64)


def _one_hot(sample: Sample) -> FloatArray:
    index = {label: place for place, label in enumerate(sample.labels)}
    return np.eye(len(sample.labels))[[index[target] for target in sample.targets]]  # [N, L]


def _answered(sample: Sample) -> list[str]:
    return [_FAILED if prediction is None else prediction for prediction in sample.predictions]


def _scikit_f1(average: str) -> Callable[[Sample], float]:
    def point(sample: Sample) -> float:
        from sklearn.metrics import f1_score

        seen = sorted(({*sample.targets, *sample.predictions}) - {None}, key=str)
        options: dict[str, Any] = {"labels": seen, "average": average, "zero_division": 0}
        return float(f1_score(sample.targets, _answered(sample), **options))

    return point


def _scikit_accuracy(sample: Sample) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(sample.targets, _answered(sample)))


def _scikit_balanced_accuracy(sample: Sample) -> float:
    from sklearn.metrics import recall_score

    # Equal to balanced_accuracy_score, which would warn about the failed answers.
    seen = sorted(set(sample.targets))
    return float(recall_score(sample.targets, _answered(sample), labels=seen, average="macro", zero_division=0))


def _scikit_matthews(sample: Sample) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(sample.targets, _answered(sample)))


def _scikit_log_loss(sample: Sample) -> float:
    from sklearn.metrics import log_loss

    order = np.argsort(sample.labels)  # scikit-learn sorts the labels
    return float(log_loss(sample.targets, _probabilities(sample)[:, order], labels=sorted(sample.labels)))


def _accuracy_features(sample: Sample) -> FloatArray:
    return with_count(_correct(sample))


def _log_loss_features(sample: Sample) -> FloatArray:
    return with_count(_losses(sample))


def _brier_features(sample: Sample) -> FloatArray:
    return with_count(_squared_errors(sample))


LABEL_METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "accuracy", "Accuracy", True, False, (0, 1), _scikit_accuracy, _accuracy_features, mean, is_proportion=True
        ),
        # Over the labels that occur in targets or answers, as in scikit-learn.
        Metric("f1_macro", "Macro F1", True, False, (0, 1), _scikit_f1("macro"), _cells, _f1_macro),
        Metric("f1_micro", "Micro F1", True, False, (0, 1), _scikit_f1("micro"), _cells, _f1_micro),
        Metric(
            "balanced_accuracy",
            "Balanced accuracy",
            True,
            False,
            (0, 1),
            _scikit_balanced_accuracy,
            _cells,
            _balanced_accuracy,
        ),
        # Matthews' correlation in Gorodkin's form for any number of labels.
        Metric("matthews", "Matthews correlation", True, False, (-1, 1), _scikit_matthews, _cells, _matthews),
        Metric("log_loss", "Log loss", False, True, (0, None), _scikit_log_loss, _log_loss_features, mean),
        # Half the squared error over all labels: 0 to 1, and for two labels equal to the usual binary Brier score.
        Metric("brier", "Brier score", False, True, (0, 1), by_sums(_brier_features, mean), _brier_features, mean),
        # Expected calibration error of the most likely label, 15 bins (Guo et al. 2017, arXiv 1706.04599).
        Metric(
            "ece",
            "Calibration error",
            False,
            True,
            (0, 1),
            by_sums(_bins, _calibration_error),
            _bins,
            _calibration_error,
        ),
    )
}
