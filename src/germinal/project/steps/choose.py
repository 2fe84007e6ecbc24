"""The choose step: which candidate wins on dev, and the paired tests that say how sure that is.

Candidates are known by their places in the plan, so that renaming one runs nothing again. Tests that the plan declares
are corrected together by Holm's method; those against the observed best are exploratory and corrected separately.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from germinal.errors import SettingError
from germinal.evaluation import evaluator, selection
from germinal.evaluation.metrics import METRICS, libraries_of
from germinal.evaluation.sample import Sample
from germinal.evaluation.significance import holm
from germinal.ledger import Ledger
from germinal.predictors.answers import Answer
from germinal.project.steps.base import Dependency, Step, StepContext, StepResult
from germinal.project.steps.data import rows_of
from germinal.project.steps.environment import versions
from germinal.project.steps.measure import MeasureStep, sample_of
from germinal.storage import digest

BEST_BASELINE = -1


@dataclass(frozen=True)
class DeclaredTest:
    """A comparison of the plan, by the candidates' places; the second may be BEST_BASELINE."""

    first: int
    second: int
    role: str


@dataclass(frozen=True)
class ChooseStep(Step):
    """Compare the candidates and choose one. Output: `choice`."""

    kind: ClassVar[str] = "choose"
    version: ClassVar[int] = 2

    measures: tuple[MeasureStep, ...]
    baselines: tuple[int, ...]
    tests: tuple[DeclaredTest, ...]
    metric: str
    seed: int
    level: float = 0.95

    @property
    def name(self) -> str:
        return "compare on dev and choose"

    def settings(self) -> Mapping[str, Any]:
        return {
            "metric": self.metric,
            "baselines": list(self.baselines),
            "tests": [[test.first, test.second, test.role] for test in self.tests],
            "level": self.level,
            "seed": self.seed,
            "libraries": versions(libraries_of([self.metric])),
        }

    def dependencies(self) -> Mapping[str, Dependency]:
        found = {f"candidate {place}": Dependency(measure, "figures") for place, measure in enumerate(self.measures)}
        data = self.measures[0].data
        return {**found, "rows": Dependency(data, "dev"), "labels": Dependency(data, "labels")}

    def run(self, context: StepContext) -> StepResult:
        candidates = self._candidates(context)
        if not candidates:
            raise SettingError(
                f"no trial gives the probabilities that '{self.metric}' needs, so it cannot decide.",
                where="scope.metrics",
                hint='Put another metric first, or add the rule "likelihood".',
            )
        work = {place: float(context.inputs[f"candidate {place}"].values["work"]) for place in candidates}
        choice = selection.choose(
            self.metric,
            {_name(place): samples for place, samples in candidates.items()},
            {_name(place): amount for place, amount in work.items()},
            level=self.level,
            seed=self.seed,
        )
        best, winner = int(choice.best), int(choice.proposed)
        tied = [int(name) for name in choice.tied]
        values = {
            "metric": self.metric,
            "best": best,
            "tied": tied,
            "winner": winner,
            "winner_replicate": self._best_replicate(candidates[winner]),
            "reason": _reason(best, winner, tied, work) + _untellable(candidates[best][0], len(candidates), self.level),
            "comparisons": self._declared(candidates) + self._against_best(choice),
        }
        return StepResult({"choice": digest(values)}, values)

    def _candidates(self, context: StepContext) -> dict[int, list[Sample]]:
        """The samples of every candidate that the deciding metric can measure."""
        rows = rows_of(context.inputs["rows"], "dev", context.artifact.parent)
        labels = context.inputs["labels"].values["labels"]
        found: dict[int, list[Sample]] = {}
        for place, measure in enumerate(self.measures):
            key = context.inputs[f"candidate {place}"].key
            samples = [
                sample_of(rows, _answers(context.ledger, key, number, bool(labels)), labels)
                for number in range(len(measure.replicates))
            ]
            if samples[0].probabilities is not None or not METRICS[self.metric].needs_probabilities:
                found[place] = samples
        return found

    def _best_replicate(self, samples: Sequence[Sample]) -> int:
        metric = METRICS[self.metric]
        sign = 1 if metric.higher_is_better else -1
        values = [sign * metric.point(sample) for sample in samples]
        return values.index(max(values))

    def _declared(self, candidates: Mapping[int, Sequence[Sample]]) -> list[dict[str, Any]]:
        """The tests of the plan, as far as both sides can be measured."""
        records: list[dict[str, Any]] = []
        for test in self.tests:
            second = self._best_baseline(candidates) if test.second == BEST_BASELINE else test.second
            if second is None or test.first not in candidates or second not in candidates:
                continue
            compared = evaluator.compare(
                self.metric, candidates[test.first], candidates[second], level=self.level, seed=self.seed
            )
            records.append(_record(test.first, second, compared, test.role))
        adjusted = holm({_name(place): record["p_value"] for place, record in enumerate(records)})
        return [{**record, "p_adjusted": adjusted[_name(place)]} for place, record in enumerate(records)]

    def _best_baseline(self, candidates: Mapping[int, Sequence[Sample]]) -> int | None:
        metric = METRICS[self.metric]
        sign = 1 if metric.higher_is_better else -1
        known = [place for place in self.baselines if place in candidates]
        return max(known, key=lambda place: sign * metric.point(candidates[place][0]), default=None)

    def _against_best(self, choice: selection.Choice) -> list[dict[str, Any]]:
        """Each candidate's test against the observed best, with the candidate as the first side."""
        records: list[dict[str, Any]] = []
        for name, compared in choice.against_best.items():
            record = _record(int(name), int(choice.best), compared, "best")
            low, high = (None if end is None else -end for end in (compared.high, compared.low))
            turned = {"difference": -compared.difference, "low": low, "high": high}
            records.append({**record, **turned, "p_adjusted": choice.adjusted[name], "exploratory": True})
        return records


def _answers(ledger: Ledger, key: str, replicate: int, closed: bool) -> list[Answer]:
    """The answers that a measure step stored, with what metrics need of them."""
    return [
        Answer(
            label=row["answer"] if closed else None,
            text=row["answer"] or "",
            probabilities=row["probabilities"],
            error=None if row["answer"] is not None else "failed",
        )
        for row in ledger.stored_answers(key, replicate)
    ]


def _record(first: int, second: int, compared: evaluator.Comparison, role: str) -> dict[str, Any]:
    return {
        "first": first,
        "second": second,
        "metric": compared.metric,
        "difference": compared.difference,
        "low": compared.low,
        "high": compared.high,
        "p_value": compared.p_value,
        "p_adjusted": None,
        "test": compared.test,
        "role": role,
        "exploratory": False,
        "n": compared.n,
    }


def _reason(best: int, winner: int, tied: Sequence[int], work: Mapping[int, float]) -> str:
    if len(tied) == 1:
        return "It has the best value on dev, and every other candidate can be told apart from it."
    if winner == best:
        return f"It has the best value on dev and takes the least work of the {len(tied)} that cannot be told apart."
    share = work[winner] / work[best] if work[best] else 0.0
    return (
        f"It cannot be told apart from the best on dev and takes the least work of the {len(tied)} that cannot: "
        f"{share:.0%} of the best's tokens x parameters."
    )


def _untellable(rows: Sample, candidates: int, level: float) -> str:
    """What to say where the tests against the best cannot show a difference, however large it is."""
    smallest = evaluator.smallest_p(rows) * max(1, candidates - 1)  # after Holm's correction
    if candidates < 2 or smallest <= 1 - level:
        return ""
    kind = "rows" if rows.clusters is None else "groups"
    return f" Dev has only {rows.units} {kind}: no paired test of so few can tell {candidates} candidates apart."


def _name(place: int) -> str:
    return f"{place:06d}"  # names sort as places do
