"""`Project`: a germinal.toml and what came of it, for the command line, the studio, the server and Python alike.

project = Project("examples/reviews")
project.plan()                     # what a run would do, and what it would cost
project.run()                      # do it; if it is killed, the next run resumes it
project.leaderboard()              # what came of it
project.winner().predict(["..."])  # use it
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from germinal.ledger import Ledger
from germinal.progress import Reporter, silent
from germinal.project.file.config import ProjectConfig
from germinal.project.file.reader import find_project_file, read_project_file

if TYPE_CHECKING:
    from germinal.predictors.predictor import Predictor
    from germinal.project.board.leaderboard import Leaderboard
    from germinal.project.plan.plan import Plan
    from germinal.project.plan.why import Why
    from germinal.project.run.runner import RunSummary

STATE_FOLDER = ".germinal"


class Project:
    """A use case, from its project file to its winner.

    Args:
        path: A germinal.toml, or its folder.
        ledger: Another place for the ledger, a file or a database URL.

    Attributes:
        file: The project file.
        folder: Its folder, where relative paths start.
        state: The folder with ledger, artifacts and lock.

    Raises:
        ProjectFileError: there is no such file, or something in it is wrong.
    """

    def __init__(self, path: str | Path = ".", ledger: str | Path | None = None) -> None:
        self.file = find_project_file(path)
        self.folder = self.file.absolute().parent
        self.state = self.folder / STATE_FOLDER
        self._ledger_location = ledger or self.state / "ledger.sqlite"
        self.config  # noqa: B018 (what is wrong with the file is said at once)

    @cached_property
    def config(self) -> ProjectConfig:
        """What the project file says."""
        return read_project_file(self.file)

    @cached_property
    def ledger(self) -> Ledger:
        """What happened in this project, to be read: only `run` writes in the project's folder."""
        return Ledger.read(self._ledger_location)

    @property
    def artifacts(self) -> Path:
        """Where steps keep their files."""
        return self.state / "artifacts"

    def plan(self, limit: int | None = None, overrides: Sequence[str] = ()) -> Plan:
        """What a run would do now, and what it would cost.

        Args:
            limit: Use at most so many rows of dev and of test, the first ones.
            overrides: `key.path=value`, the value in TOML.
        """
        from germinal.project.plan.plan import make_plan

        return make_plan(self._config(overrides), self.ledger, self.folder, self.artifacts, limit)

    def run(self, limit: int | None = None, overrides: Sequence[str] = (), reporter: Reporter = silent) -> RunSummary:
        """Do what the plan says and is not done yet.

        Args:
            limit: As in `plan`. It makes a trial run, which what comes after takes only if there is no other.
            overrides: As in `plan`.
            reporter: Receives the progress of the run and of its steps.

        Raises:
            ProjectBusyError: another process is running this project.
            GerminalError: what is wrong with the file, the data, a model or the disk. What was done is kept.
        """
        from germinal.project.plan.step_graph import StepGraph
        from germinal.project.run.runner import Runner

        graph = StepGraph(self._config(overrides), limit)
        self._ignore_state()
        with closing(Ledger.open(self._ledger_location)) as ledger:
            self.__dict__.pop("ledger", None)  # it may have been read before there was one
            return Runner(graph, ledger, self.folder, self.state, limit, tuple(overrides), reporter).run()

    def leaderboard(self, run_id: int | None = None) -> Leaderboard:
        """What the latest finished run over all rows found, or another one.

        A trial run (`run(limit=...)`) is taken only if no other has finished; `Leaderboard.run.limit` tells.

        Raises:
            LedgerError: no run is finished.
        """
        from germinal.project.board.leaderboard import leaderboard

        return leaderboard(self.ledger, run_id)

    def winner(self) -> Predictor:
        """What the run of `leaderboard()` chose, ready to answer.

        Raises:
            LedgerError: no run is finished.
        """
        from germinal.project.loading import load_winner

        return load_winner(self.ledger, self.folder, self.artifacts)

    def predictor(self, trial_id: str) -> Predictor:
        """Any trial of the run of `leaderboard()`, ready to answer.

        Raises:
            LedgerError: no run is finished, or it had no such trial.
        """
        from germinal.project.loading import load_trial

        return load_trial(self.ledger, self.folder, self.artifacts, trial_id)

    def why(self, trial_id: str, overrides: Sequence[str] = ()) -> Why:
        """Which parts of the keys of a trial's steps changed since the last run.

        Raises:
            LedgerError: there is no such trial.
        """
        from germinal.project.plan.why import why

        return why(self._config(overrides), self.ledger, self.folder, self.artifacts, trial_id)

    def _config(self, overrides: Sequence[str]) -> ProjectConfig:
        return read_project_file(self.file, overrides) if overrides else self.config

    def _ignore_state(self) -> None:
        """Keep the state folder out of version control."""
        from germinal.storage import write_text

        if not (self.state / ".gitignore").exists():
            write_text(self.state / ".gitignore", "*\n")
