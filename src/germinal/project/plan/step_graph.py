"""The graph of a project's steps: which step plays which role in which trial.

A step may be built more than once; equal recipe keys (`germinal.project.steps.keys`) make the copies one step.
"""

from __future__ import annotations

from functools import cached_property

from germinal.evaluation.metric import mean
from germinal.evaluation.metrics import METRICS
from germinal.evaluation.power import detectable_difference, detectable_mean_difference
from germinal.ledger.records import StepRecord
from germinal.predictors.language_model_predictor import WANTED, Want
from germinal.project.file.config import ProjectConfig
from germinal.project.file.tasks import task_named
from germinal.project.plan.trials import HEAD, Candidate, Trial, candidates_of, comparisons_of, trials_of
from germinal.project.steps.base import Step
from germinal.project.steps.calibrate import CalibrateStep
from germinal.project.steps.choose import BEST_BASELINE, ChooseStep, DeclaredTest
from germinal.project.steps.clock import ClockStep
from germinal.project.steps.data import DataStep
from germinal.project.steps.examples import ExamplesStep
from germinal.project.steps.fit import FitStep
from germinal.project.steps.measure import MeasureStep, Replicate
from germinal.project.steps.model import ModelStep
from germinal.project.steps.predict import PredictStep
from germinal.project.steps.predict_fitted import FittedPredictStep
from germinal.project.steps.prompted import PromptSpec
from germinal.project.steps.tune import TuneStep
from germinal.project.steps.tune_head import TuneHeadStep


class StepGraph:
    """The steps of a project, and its trials, candidates and comparisons.

    Args:
        config: The project file.
        limit: Use at most so many rows of dev and of test.

    Raises:
        UnsupportedError: no project can have this task yet.
    """

    def __init__(self, config: ProjectConfig, limit: int | None = None) -> None:
        self.answers = task_named(config.scope.task).answers
        self.config = config
        self.trials = trials_of(config)
        self.candidates = candidates_of(self.trials)
        self.comparisons = comparisons_of(self.candidates)
        scope = config.scope
        self.data = DataStep(
            path=scope.data,
            input=scope.input,
            target=scope.target,
            group=scope.group,
            duplicates=scope.duplicates,
            dev=scope.split.dev,
            test=scope.split.test,
            limit=limit,
            answers=self.answers,
            words=scope.labels,
        )
        self.prompt_spec = PromptSpec(config.adapt.prompt, scope.labels)

    @cached_property
    def choose(self) -> ChooseStep:
        """The last step on dev, which depends on all others."""
        places = {candidate.id: place for place, candidate in enumerate(self.candidates)}
        return ChooseStep(
            measures=tuple(self.measure(candidate, "dev") for candidate in self.candidates),
            baselines=tuple(places[candidate.id] for candidate in self.candidates if candidate.first.baseline),
            tests=tuple(
                DeclaredTest(
                    places[test.first], BEST_BASELINE if test.second is None else places[test.second], test.role
                )
                for test in self.comparisons
            ),
            metric=self.config.scope.metrics[0],
            seed=self.config.seed,
        )

    def steps(self, trial: Trial, split: str) -> dict[str, Step]:
        """The steps of a trial by role ("data", "model", "predict/dev", ...), up to its measurement on one split."""
        found: dict[str, Step] = {"data": self.data}
        if trial.baseline:
            found["fit"] = FitStep(self.data, trial.baseline)
        else:
            found["model"] = self._model(trial)
            for role, step in (("examples", self._examples(trial)), ("tune", self._tune(trial))):
                if step is not None:
                    found[role] = step
            if trial.rule == "calibrated":
                found["calibrate"] = self._calibrate(trial)
        found[f"predict/{split}"] = self._predict(trial, split)
        alone = Candidate(trial.candidate, (trial,)) if split == "test" else self._candidate(trial)
        found[f"measure/{split}"] = self.measure(alone, split)
        return found

    def measure(self, candidate: Candidate, split: str) -> MeasureStep:
        """The measurement of a candidate: of all its replicates on dev, on test of the chosen one."""
        scope = self.config.scope
        return MeasureStep(
            title=candidate.id,
            data=self.data,
            split=split,
            replicates=tuple(
                Replicate(self._predict(trial, split), self._calibrate(trial) if trial.rule == "calibrated" else None)
                for trial in candidate.trials
            ),
            rule=candidate.first.rule,
            words=scope.labels,
            metrics=tuple(scope.metrics),
            seed=self.config.seed,
        )

    def tested_trials(self, choice: StepRecord | None) -> list[Trial]:
        """The trials that are measured on test: the baselines, and the winner once there is one."""
        tested = [trial for trial in self.trials if trial.baseline]
        if choice is not None and (winner := self.winner(choice)) not in tested:
            tested.append(winner)
        return tested

    def detectable(self, units: int) -> float | None:
        """The smallest difference that so many units show reliably; None where they show none, or it cannot be told.

        A unit is a row, or a group of rows, which then counts as one: the more its rows differ, the less is enough.

        For labels, which are right or wrong, it is a difference in accuracy, whichever metric decides. For texts it is
        one in the deciding metric, if that is a share of right answers or a mean over rows.
        """
        metric, comparisons = METRICS[self.config.scope.metrics[0]], max(1, len(self.comparisons))
        if self.answers == "labels" or metric.is_proportion:
            return detectable_difference(units, comparisons=comparisons).difference
        return detectable_mean_difference(units, comparisons=comparisons) if metric.reduce is mean else None

    def clock(self, trial: Trial) -> ClockStep:
        """The step that measures how long one answer of a trial takes."""
        return ClockStep(self._predict(trial, "test"))

    def winner(self, choice: StepRecord) -> Trial:
        """The replicate that a finished choose step proposes to ship."""
        winner: int = choice.values["winner"]
        replicate: int = choice.values["winner_replicate"]
        return self.candidates[winner].trials[replicate]

    def _candidate(self, trial: Trial) -> Candidate:
        return next(candidate for candidate in self.candidates if candidate.id == trial.candidate)

    def _model(self, trial: Trial) -> ModelStep:
        assert trial.model is not None
        assert trial.precision is not None
        return ModelStep(trial.model, trial.precision, head=trial.adapter == HEAD)

    def _examples(self, trial: Trial) -> ExamplesStep | None:
        return ExamplesStep(self.data, trial.shots, trial.shot_seed or 0) if trial.shots else None

    def _tune(self, trial: Trial) -> TuneStep | TuneHeadStep | None:
        if trial.adapter is None:
            return None
        return self._tune_head(trial) if trial.adapter == HEAD else self._tune_lora(trial)

    def _tune_head(self, trial: Trial) -> TuneHeadStep:
        assert self.config.adapt.head is not None
        return TuneHeadStep(self.data, self._model(trial), self.config.adapt.head, self.config.seed)

    def _tune_lora(self, trial: Trial) -> TuneStep:
        assert self.config.adapt.lora is not None
        return TuneStep(
            self.data,
            self._model(trial),
            self.prompt_spec,
            examples=None,
            tune=None,
            lora=self.config.adapt.lora,
            seed=self.config.seed,
        )

    def _calibrate(self, trial: Trial) -> CalibrateStep:
        return CalibrateStep(
            self.data,
            self._model(trial),
            self.prompt_spec,
            self._examples(trial),
            self._tune(trial),
            method=self.config.adapt.prompt.calibration,
        )

    def _predict(self, trial: Trial, split: str) -> PredictStep | FittedPredictStep:
        if trial.baseline:
            return FittedPredictStep(self.data, FitStep(self.data, trial.baseline), split)
        if trial.adapter == HEAD:
            return FittedPredictStep(self.data, self._tune_head(trial), split)
        return PredictStep(
            self.data,
            self._model(trial),
            self.prompt_spec,
            self._examples(trial),
            self._tune(trial),
            split=split,
            wants=self._wants(trial, split),
            generation=self.config.generation,
        )

    def _wants(self, trial: Trial, split: str) -> tuple[Want, ...]:
        """What is computed for a prompt: on dev, in one pass, what all rules need; on test what the winner's needs."""
        rules = [trial.rule] if split == "test" else self.config.adapt.prompt.rules
        return tuple(sorted({WANTED[rule] for rule in rules if rule is not None}))
