"""The data step: a file becomes three splits, each with a digest of its own.

A row that is added to dev changes the digest of dev alone: nothing that depends on the training split runs again. The
file counts by content, whatever its name and place.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from germinal.data import Row, check_labels, read_dataset, read_table, split
from germinal.data.dataset import DuplicatePolicy
from germinal.errors import LedgerError
from germinal.evaluation.metric import Answers
from germinal.files import parse_json, read_text
from germinal.ledger.records import StepRecord
from germinal.ledger.shapes import checked
from germinal.predictors.answers import BATCH_CALIBRATION_INPUTS, Labels
from germinal.project.steps.base import Step, StepContext, StepResult, artifact_of
from germinal.storage import digest, file_digest, write_text

_MOST_BYTES = 1 << 34


@dataclass(frozen=True)
class DataStep(Step):
    """Read, check and split the rows.

    Outputs: `train`, `dev`, `test`; `calibration`, the first training rows by rank; `labels`, the names of the labels,
    of which there are none where answers are texts.
    """

    kind: ClassVar[str] = "data"
    version: ClassVar[int] = 2
    keeps_files: ClassVar[bool] = True

    path: str
    input: str
    target: str
    group: str | None
    duplicates: DuplicatePolicy
    dev: int | float
    test: int | float
    limit: int | None
    answers: Answers = "labels"
    words: Mapping[str, str] = field(default_factory=dict)
    """Words for labels: only checked here, before anything is loaded or tuned."""

    @property
    def name(self) -> str:
        return f"read {Path(self.path).name}"

    def settings(self) -> Mapping[str, Any]:
        settings = {key: value for key, value in asdict(self).items() if key not in ("path", "answers", "words")}
        return settings if self.answers == "labels" else {**settings, "answers": self.answers}

    def sources(self) -> Mapping[str, str]:
        return {"file": self.path}

    def identify(self, folder: Path, *, fetch: bool) -> Mapping[str, str] | None:
        path = folder / self.path
        if not path.is_file():
            read_table(path)  # says what is wrong, and what stands beside it
        return {"file": file_digest(path), "format": path.suffix.lower()}

    def run(self, context: StepContext) -> StepResult:
        closed = self.answers == "labels"
        dataset = read_dataset(
            context.folder / self.path,
            input=self.input,
            target=self.target,
            group=self.group,
            duplicates=self.duplicates,
            closed=closed,
        )
        whole = split(dataset.rows, dev=self.dev, test=self.test)
        if closed:
            check_labels(whole)
        labels = list(Labels.of(whole.labels, self.words).names) if closed else []
        splits = {"train": whole.train, "dev": whole.dev[: self.limit], "test": whole.test[: self.limit]}
        context.ledger.store_examples(
            {"row_id": row.id, "input": row.input, "target": row.target, "group": row.group}
            for rows in splits.values()
            for row in rows
        )
        kept = {**splits, "calibration": whole.train[:BATCH_CALIBRATION_INPUTS]}
        for name, rows in kept.items():
            plain = [asdict(row) for row in rows]
            write_text(context.artifact / f"{name}.json", json.dumps(plain, ensure_ascii=False))
        outputs = {name: _rows_digest(rows) for name, rows in kept.items()}
        outputs["labels"] = digest(labels)
        counts = {
            name: {
                "rows": len(rows),
                "labels": dict(sorted(Counter(row.target for row in rows if closed).items())),
                "units": len({row.unit for row in rows}),
            }
            for name, rows in splits.items()
        }
        values = {"splits": counts, "labels": labels, "dropped": len(dataset.dropped)}
        return StepResult(outputs, values)


def rows_of(data: StepRecord, name: str, artifacts: Path) -> list[Row]:
    """The rows that a finished data step kept under `name`: a split, or "calibration".

    Raises:
        LedgerError: the file is gone or damaged.
        UnsafeFileError: it lies outside `artifacts`.
    """
    path = artifact_of(data, artifacts) / f"{name}.json"
    plain = parse_json(read_text(path, error=LedgerError, most=_MOST_BYTES), where=str(path), error=LedgerError)
    try:
        return checked([Row(**row) for row in plain])
    except (TypeError, ValueError) as error:
        hint = "Remove its folder: `germinal run` makes it again."
        raise LedgerError("does not hold the rows that a data step keeps.", where=str(path), hint=hint) from error


def _rows_digest(rows: Sequence[Row]) -> str:
    return digest([[row.id, row.input] for row in rows])  # rows with one id may differ in spaces, which a prompt shows
