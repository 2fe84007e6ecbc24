"""All metrics by name: those of labels and those of texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from germinal.errors import SettingError, nearest
from germinal.evaluation.label_metrics import LABEL_METRICS
from germinal.evaluation.metric import Metric
from germinal.evaluation.text_metrics import TEXT_METRICS

METRICS: Mapping[str, Metric] = {**LABEL_METRICS, **TEXT_METRICS}

_LIBRARIES = ("numpy", "scikit-learn", "scipy")


def metric_named(name: str) -> Metric:
    """The metric of that name.

    Raises:
        SettingError: there is no such metric; the hint names the nearest.
    """
    if name not in METRICS:
        raise SettingError(f"there is no metric '{name}'.", where="metrics", hint=nearest(name, list(METRICS)))
    return METRICS[name]


def libraries_of(names: Iterable[str]) -> tuple[str, ...]:
    """The packages whose versions affect the values, intervals and tests of these metrics."""
    return (*_LIBRARIES, *sorted({library for name in names if (library := METRICS[name].library)}))
