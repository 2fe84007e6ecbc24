"""How far a whole run is: examples done of all that are to do, and trials measured. A bar over it tells the time left.

Work is counted in examples: a row that is answered is one, a row that is tuned on some (forward and backward). What
the ledger has already is no work and is not counted.
"""

from __future__ import annotations

from germinal.ledger import StepRecord
from germinal.progress import Progress, Reporter
from germinal.project.steps.base import Step
from germinal.project.steps.calibrate import CalibrateStep
from germinal.project.steps.measure import MeasureStep
from germinal.project.steps.predict import PredictStep
from germinal.project.steps.predict_fitted import FittedPredictStep
from germinal.project.steps.tune import TuneStep
from germinal.project.steps.tune_head import TuneHeadStep

TASK = "run"
_EXAMPLES_A_TUNED_ROW = 3


class RunProgress:
    """Hears of every step and tells how far the run is.

    Args:
        reporter: Who is told.
        steps: All steps of the run, in order.
    """

    def __init__(self, reporter: Reporter, steps: list[Step]) -> None:
        self._reporter = reporter
        self._steps = steps
        self._trials = sum(len(step.replicates) for step in steps if isinstance(step, MeasureStep))
        self._measured = 0
        self._done = 0.0
        self._total = 0.0
        self._data: StepRecord | None = None

    def began(self, data: StepRecord) -> None:
        """The data is read: now the work can be counted."""
        self._data = data
        self._total = sum(self._examples(step) for step in self._steps)

    def skipped(self, step: Step) -> None:
        """The ledger had this step."""
        self._total -= self._examples(step)
        self._count_trials(step)

    def during(self, step: Step, progress: Progress) -> None:
        """A step is so far; its own progress is passed on too."""
        self._reporter(progress)
        if progress.total and (examples := self._examples(step)):
            self._tell(self._done + examples * progress.done / progress.total)

    def finished(self, step: Step) -> None:
        """A step is done."""
        self._done += self._examples(step)
        self._count_trials(step)
        if isinstance(step, MeasureStep) or self._examples(step):
            self._tell(self._done)

    def _count_trials(self, step: Step) -> None:
        if isinstance(step, MeasureStep):
            self._measured += len(step.replicates)

    def _tell(self, done: float) -> None:
        note = f"{self._measured}/{self._trials} trials"
        self._reporter(Progress(TASK, round(done), max(round(self._total), 1), "examples", note))

    def _examples(self, step: Step) -> float:
        """The work of a step, in examples."""
        if self._data is None:
            return 0
        rows = {name: split["rows"] for name, split in self._data.values["splits"].items()}
        match step:
            case PredictStep():
                return float(rows[step.split])
            case FittedPredictStep(fit=TuneHeadStep()):
                return float(rows[step.split])
            case CalibrateStep():
                return float(step.num_inputs(rows["train"]))
            case TuneStep():
                used = min(rows["train"], step.lora.max_examples or rows["train"])
                return float(_EXAMPLES_A_TUNED_ROW * step.lora.epochs * used)
            case TuneHeadStep():
                used = min(rows["train"], step.head.max_examples or rows["train"])
                return float(_EXAMPLES_A_TUNED_ROW * step.head.epochs * used)
        return 0
