"""The measure step: outputs become answers by a rule, and answers become figures. No model is needed.

It measures a candidate: each of its replicates, and all of them together. The versions of the libraries that compute
metrics affect the result, and are a part of its key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from germinal.data import Row
from germinal.data.normal_forms import comparable
from germinal.evaluation.answer_counts import answer_counts
from germinal.evaluation.evaluator import Estimate, estimate
from germinal.evaluation.metrics import METRICS, libraries_of
from germinal.evaluation.sample import Sample
from germinal.ledger import CountsRecord
from germinal.ledger.records import Figure, StepRecord
from germinal.ledger.tables import CANDIDATE
from germinal.predictors.answers import Answer, Labels, Output, Rule, decide
from germinal.predictors.language_model_predictor import WANTED
from germinal.project.steps.base import Dependency, Step, StepContext, StepResult
from germinal.project.steps.calibrate import CalibrateStep
from germinal.project.steps.data import DataStep, rows_of
from germinal.project.steps.environment import versions
from germinal.project.steps.predict import PredictStep
from germinal.project.steps.predict_fitted import FittedPredictStep
from germinal.project.steps.rows import outputs_of
from germinal.storage import digest


@dataclass(frozen=True)
class Replicate:
    """The steps of one replicate on which a measurement depends."""

    predict: PredictStep | FittedPredictStep
    calibrate: CalibrateStep | None = None


@dataclass(frozen=True)
class MeasureStep(Step):
    """Measure a candidate on one split. Output: `figures`.

    Values: `counts`, of each replicate the fields of `CountsRecord`, beside tokens, work and spread.
    """

    kind: ClassVar[str] = "measure"
    version: ClassVar[int] = 2

    title: str
    data: DataStep
    split: str
    replicates: tuple[Replicate, ...]
    rule: Rule | None
    words: Mapping[str, str]
    metrics: tuple[str, ...]
    seed: int
    level: float = 0.95

    @property
    def name(self) -> str:
        return f"measure {self.title} on {self.split}"

    def settings(self) -> Mapping[str, Any]:
        return {
            "rule": self.rule,
            "words": dict(self.words) if self.rule else None,
            "metrics": list(self.metrics),
            "level": self.level,
            "seed": self.seed,
            "libraries": versions(libraries_of(self.metrics)),
        }

    def dependencies(self) -> Mapping[str, Dependency]:
        found = {"rows": Dependency(self.data, self.split), "labels": Dependency(self.data, "labels")}
        for number, replicate in enumerate(self.replicates):
            found[f"outputs {number}"] = Dependency(replicate.predict, WANTED[self.rule] if self.rule else "answers")
            if replicate.calibrate is not None:
                found[f"priors {number}"] = Dependency(replicate.calibrate, "priors")
        return found

    def run(self, context: StepContext) -> StepResult:
        rows = rows_of(context.inputs["rows"], self.split, context.artifact.parent)
        names = context.inputs["labels"].values["labels"]
        labels = Labels.of(names, self.words) if names else None
        samples: list[Sample] = []
        tokens: list[dict[str, int]] = []
        counts: list[CountsRecord] = []
        cut = 0
        for number in range(len(self.replicates)):
            predict = context.inputs[f"outputs {number}"]
            outputs = outputs_of(context.ledger, predict)
            answers, counted = self._answers(context, number, outputs, labels)
            context.ledger.store_answers(context.key, number, _plain(rows, answers))
            samples.append(sample_of(rows, answers, names))
            tokens.append(_tokens(predict, self.rule))
            counts.append(counted)
            cut += predict.values.get("cut", 0)
        estimates = self._store_figures(context, samples)
        parameters = context.inputs["outputs 0"].values.get("parameters")
        per_example = sum(sum(used.values()) for used in tokens) / (len(tokens) * len(rows))
        values = {
            "replicates": tokens,
            "counts": [asdict(each) for each in counts],
            "parameters": parameters,
            "tokens_per_example": per_example,
            "work": per_example * (parameters or 0),
            "spread": {item.metric: _spread(item) for item in estimates if item.spread is not None},
            **({"cut": cut} if labels is None else {}),
        }
        said = [[sample.predictions, sample.probabilities, sample.targets, sample.clusters] for sample in samples]
        return StepResult({"figures": digest([said, values["work"]])}, values)

    def _answers(
        self, context: StepContext, number: int, outputs: Sequence[Mapping[str, Any]], labels: Labels | None
    ) -> tuple[list[Answer], CountsRecord]:
        """What the rule makes of the outputs of a replicate, and how many of these answers cannot count."""
        if self.rule is None:  # outputs are answers
            answers = [Answer(**output) for output in outputs]
            return answers, answer_counts(answers)
        calibrated = context.inputs.get(f"priors {number}")
        priors = calibrated.values["priors"] if calibrated else None
        whole = [Output.from_json({"token_ids": (), **output}) for output in outputs]  # scores come without tokens
        answers = [decide(self.rule, output, labels, priors) for output in whole]
        return answers, answer_counts(answers, whole)

    def _store_figures(self, context: StepContext, samples: Sequence[Sample]) -> list[Estimate]:
        whole: list[Estimate] = []
        usable = [name for name in self.metrics if not METRICS[name].needs_probabilities or samples[0].probabilities]
        for number, sample in enumerate(samples):
            each = [estimate(name, [sample], level=self.level, seed=self.seed) for name in usable]
            context.ledger.store_measurements(context.key, number, {item.metric: _figure(item) for item in each})
            whole = each
        if len(samples) > 1:
            whole = [estimate(name, samples, level=self.level, seed=self.seed) for name in usable]
        context.ledger.store_measurements(context.key, CANDIDATE, {item.metric: _figure(item) for item in whole})
        return whole


def sample_of(rows: Sequence[Row], answers: Sequence[Answer], labels: Sequence[str]) -> Sample:
    """Answers beside the right ones; rows that a split keeps together are one cluster."""
    units = [row.unit for row in rows]
    clusters = units if len(set(units)) < len(units) else None
    return Sample.from_answers([row.target for row in rows], answers, labels, clusters)


def _plain(rows: Sequence[Row], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    return [
        {
            "row_id": row.id,
            "position": position,
            "answer": answer.said,
            "text": answer.text,
            "probabilities": dict(answer.probabilities) if answer.probabilities is not None else None,
            "error": answer.error,
            "correct": answer.said is not None and comparable(answer.said) == comparable(row.target),
        }
        for position, (row, answer) in enumerate(zip(rows, answers, strict=True))
    ]


def _tokens(predict: StepRecord, rule: Rule | None) -> dict[str, int]:
    """Tokens that a rule takes to answer a split: those of prompts, a shared start counted once, and of answers."""
    counted = predict.values["tokens"]
    return {
        "prompt_tokens": counted["prompt"],
        "generated_tokens": counted["generated"] if rule == "generate" else 0,
        "scored_tokens": counted["scored"] if rule in ("likelihood", "calibrated") else 0,
    }


def _figure(item: Estimate) -> Figure:
    return Figure(item.value, item.low, item.high, item.n, item.method, item.level)


def _spread(item: Estimate) -> dict[str, float | int]:
    return {
        "low": min(item.replicates),
        "high": max(item.replicates),
        "deviation": float(np.std(item.replicates, ddof=1)),
        "n": len(item.replicates),
    }
