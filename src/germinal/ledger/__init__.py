"""The record of a project: runs, steps, predictions row by row, answers, measurements, and looks at the test split.

One SQLite file (or a PostgreSQL database by URL) behind SQLAlchemy. The runner writes it; leaderboard, report, studio
and server only read it, through methods such as `Ledger.results()`, which return the dataclasses of
`germinal.ledger.records`:

    ledger = Ledger.open(folder / "ledger.sqlite")
    results = ledger.results()                   # the latest run over all rows: candidates, figures, the choice
    ledger.answers("majority", split="dev")      # the answers of one trial, example by example
    ledger.prompts(trial_id), ledger.history(trial_id), ledger.step(key), ledger.test_looks()

Steps and predictions are addressed by content (`germinal.project.steps.keys`), never by name or path, and an error is
never stored as an answer.
"""

from germinal.ledger.ledger import Ledger
from germinal.ledger.records import (
    AnswerRecord,
    CandidateRecord,
    ChoiceRecord,
    ComparisonRecord,
    Cost,
    CountsRecord,
    Environment,
    EstimateRecord,
    Figure,
    LimitRecord,
    MetricRecord,
    PromptRecord,
    Results,
    RunRecord,
    SplitRecord,
    Spread,
    StepRecord,
    SuccessRecord,
    TrialRecord,
)

__all__ = [
    "AnswerRecord",
    "CandidateRecord",
    "ChoiceRecord",
    "ComparisonRecord",
    "Cost",
    "CountsRecord",
    "Environment",
    "EstimateRecord",
    "Figure",
    "Ledger",
    "LimitRecord",
    "MetricRecord",
    "PromptRecord",
    "Results",
    "RunRecord",
    "SplitRecord",
    "Spread",
    "StepRecord",
    "SuccessRecord",
    "TrialRecord",
]
