"""What every step of the life cycle has in common: an identity, what it depends on, and how it is done.

A step is a frozen dataclass in a file of its own. Its fields say what to do; `settings` names those that affect the
result; `sources` names what lies outside the ledger (a data file, a model), which counts by content, as `identify`
finds it. Raise `version` whenever the results of a step change: a test with golden outputs reminds you.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from germinal.checkpoints.cache import remembered_digest
from germinal.errors import LedgerError
from germinal.files import check_folder, inside
from germinal.ledger.records import StepRecord
from germinal.progress import Reporter

if TYPE_CHECKING:
    from germinal.ledger import Ledger
    from germinal.project.steps.model_cache import ModelCache


@dataclass(frozen=True)
class Dependency:
    """One named output of another step."""

    step: Step
    output: str


@dataclass(frozen=True)
class StepResult:
    """What came out of a step.

    Attributes:
        outputs: Name -> digest of its content, on which later steps depend.
        values: What later steps and readers need, as plain JSON.
        seconds: The time that its rows took, whenever they were computed; None where that is the time the step ran.
        peak_memory_bytes: The same for memory.
        complete: False when some rows failed: they are measured as wrong, and the next run tries again.
    """

    outputs: Mapping[str, str]
    values: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    complete: bool = True


FILES = "files"
"""The name among a step's values of the digest of its folder."""


def artifact_of(step: StepRecord, artifacts: Path) -> Path:
    """The folder that a finished step left.

    Args:
        artifacts: Where steps keep their files.

    Raises:
        UnsafeFileError: the ledger names a place outside `artifacts`, or `check_folder` refuses the folder.
        LedgerError: it names none, or the folder is gone, or was changed since.
    """
    hint = "`germinal run` makes them again."
    if step.artifact is None:
        raise LedgerError(f"the ledger names no files of the step '{step.name}'.", where=str(artifacts), hint=hint)
    folder = inside(artifacts, step.artifact)
    if not folder.is_dir():
        raise LedgerError(f"the files of the step '{step.name}' are gone.", where=str(folder), hint=hint)
    check_folder(folder)
    if not is_unchanged(step, folder):
        raise LedgerError(f"the files of the step '{step.name}' were changed since.", where=str(folder), hint=hint)
    return folder


def is_unchanged(step: StepRecord, folder: Path) -> bool:
    """Whether the folder of a finished step holds what the step left. Steps of older ledgers do not say."""
    return step.values.get(FILES) in (None, remembered_digest(folder))


@dataclass
class RowCount:
    """How many rows a run computed, and how many it found."""

    predicted: int = 0
    reused: int = 0


@dataclass(frozen=True)
class StepContext:
    """What a step is given when it runs.

    Attributes:
        key: Its resolved key.
        inputs: The finished steps that it depends on, by the names in `dependencies`.
        artifact: A folder of its own. It may hold what an interrupted attempt left.
        folder: The folder of germinal.toml, where relative paths start.
        models: The loaded model.
        rows: Counts rows that are computed and reused.
        report: Receives this step's progress.
        peak_memory: The process's peak in bytes since the step began, or None where the system cannot tell.
    """

    key: str
    inputs: Mapping[str, StepRecord]
    artifact: Path
    folder: Path
    ledger: Ledger
    run_id: int
    models: ModelCache
    rows: RowCount
    report: Reporter
    peak_memory: Callable[[], int | None]

    def reporter(self, task: str) -> Reporter:
        """A reporter that passes progress on to `report` under the name `task`."""
        return lambda progress: self.report(replace(progress, task=task))


@dataclass(frozen=True)
class Step(ABC):
    """One step. Steps that differ only in `name` are the same step."""

    kind: ClassVar[str]
    version: ClassVar[int]
    keeps_files: ClassVar[bool] = False
    """Whether it leaves an artifact folder; if that is removed, the step is not done any more."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it does, for a reader of the plan."""

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """What affects the result, with defaults filled in."""

    def dependencies(self) -> Mapping[str, Dependency]:
        """What it depends on, by name."""
        return {}

    def sources(self) -> Mapping[str, str]:
        """What it reads and no step made, by name or path."""
        return {}

    def identify(self, folder: Path, *, fetch: bool) -> Mapping[str, str] | None:
        """Digests of the sources' contents; None when one has to be fetched first and `fetch` is False."""
        return {}

    def num_examples(self, rows: Mapping[str, int]) -> int:
        """How much work the step is, in examples, for the progress of a run. Answering an example counts as one.

        Args:
            rows: The number of rows by split.
        """
        return 0

    @abstractmethod
    def run(self, context: StepContext) -> StepResult:
        """Do the step.

        Raises:
            GerminalError: what is wrong with its inputs, a model or the disk.
        """
