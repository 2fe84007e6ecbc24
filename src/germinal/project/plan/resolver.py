"""Which steps the ledger has already: the resolved key of a step, and the finished step under it.

Nothing is run and nothing is fetched to find out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from germinal.files import inside
from germinal.ledger import Ledger, StepRecord
from germinal.project.steps.base import Step, is_unchanged
from germinal.project.steps.keys import Key, RecipeKeys, resolved_key

State = Literal["cached", "run", "depends"]
"""The ledger has the step; it will run; or which of the two depends on steps before it."""


@dataclass(frozen=True)
class Resolved:
    """A step whose key is known, and the finished step under that key if there is one."""

    key: Key
    record: StepRecord | None


class Resolver:
    """Finds the keys of steps and, in the ledger, the steps that are done.

    Args:
        ledger: Where finished steps are recorded.
        folder: The folder of germinal.toml, where sources with relative paths lie.
        artifacts: Where steps keep their files.

    Attributes:
        recipes: The steps' recipe keys, by which equal steps are one.
    """

    def __init__(self, ledger: Ledger, folder: Path, artifacts: Path) -> None:
        self._ledger = ledger
        self._folder = folder
        self._artifacts = artifacts
        self._known: dict[str, Resolved | None] = {}
        self.recipes = RecipeKeys()

    def in_order(self, steps: Sequence[Step]) -> list[Step]:
        """Steps and all their dependencies, each once and after its own dependencies."""
        ordered: dict[str, Step] = {}

        def visit(step: Step) -> None:
            if self.recipes.key(step) in ordered:
                return
            for dependency in step.dependencies().values():
                visit(dependency.step)
            ordered[self.recipes.key(step)] = step

        for step in steps:
            visit(step)
        return list(ordered.values())

    def look(self, step: Step) -> Resolved | None:
        """The step's key and record; None while a step that it depends on is not done, or a model is not fetched."""
        recipe = self.recipes.key(step)
        if recipe not in self._known:
            self._known[recipe] = self._look(step)
        return self._known[recipe]

    def state(self, step: Step) -> State:
        """What a run would do about the step."""
        resolved = self.look(step)
        if resolved is None:
            return "depends" if step.dependencies() else "run"  # what depends on nothing only has to be fetched
        return "run" if resolved.record is None else "cached"

    def resolve(self, step: Step, inputs: Mapping[str, StepRecord], *, fetch: bool) -> Resolved | None:
        """Key and record of a step whose inputs are finished; None when a source is not here and `fetch` is False."""
        sources = step.identify(self._folder, fetch=fetch)
        if sources is None:
            return None
        key = resolved_key(step, sources, inputs)
        return Resolved(key, self._finished(step, key.digest))

    def _look(self, step: Step) -> Resolved | None:
        inputs: dict[str, StepRecord] = {}
        for name, dependency in step.dependencies().items():
            below = self.look(dependency.step)
            if below is None or below.record is None:
                return None
            inputs[name] = below.record
        return self.resolve(step, inputs, fetch=False)

    def _finished(self, step: Step, key: str) -> StepRecord | None:
        """The step, if the ledger calls it done and its files are still there."""
        record = self._ledger.find_step(key)
        if record is None or record.status != "done":
            return None
        if step.keeps_files:
            folder = record.artifact and inside(self._artifacts, record.artifact)
            if not folder or not folder.is_dir() or not is_unchanged(record, folder):
                return None
        return record
