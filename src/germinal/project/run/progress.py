"""How far a whole run is, in examples and in trials that are measured.

Work is counted in examples, see `Step.num_examples`; steps that the ledger has already are no work.
"""

from __future__ import annotations

from germinal.ledger import StepRecord
from germinal.progress import Progress, Reporter
from germinal.project.steps.base import Step
from germinal.project.steps.measure import MeasureStep

TASK = "run"


class RunProgress:
    """Is told of every step, and reports how far the run is.

    Args:
        reporter: Receives the reports.
        steps: All steps of the run, in order.
    """

    def __init__(self, reporter: Reporter, steps: list[Step]) -> None:
        self._reporter = reporter
        self._steps = steps
        self._trials = sum(len(step.replicates) for step in steps if isinstance(step, MeasureStep))
        self._measured = 0
        self._done = 0
        self._total = 0
        self._rows: dict[str, int] = {}

    def began(self, data: StepRecord) -> None:
        """The data step is done: now the work can be counted."""
        self._rows = {name: split["rows"] for name, split in data.values["splits"].items()}
        self._total = sum(self._examples(step) for step in self._steps)

    def skipped(self, step: Step) -> None:
        """The ledger has this step already."""
        self._total -= self._examples(step)
        self._count_trials(step)

    def during(self, step: Step, progress: Progress) -> None:
        """A step reported its progress, which is passed on as well."""
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
        self._reporter(Progress(TASK, round(done), max(self._total, 1), "examples", note))

    def _examples(self, step: Step) -> int:
        """The work of a step, in examples; none while the data is not read."""
        return step.num_examples(self._rows) if self._rows else 0
