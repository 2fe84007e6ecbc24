"""The identity of steps and predictions: SHA-256 of canonical, type-tagged JSON, whose parts are kept.

A step's *recipe key* is known when planning: kind, version, settings, names of sources, and the recipe keys of what it
depends on. Its *resolved key* is known when it starts: digests of the sources and of the outputs below replace names
and recipes, so that an edit that changes no output runs nothing further. `germinal why` compares the parts of keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from germinal.ledger.records import StepRecord
from germinal.project.steps.base import Step
from germinal.storage import digest


@dataclass(frozen=True, slots=True)
class Key:
    """A key and the parts that it is the digest of."""

    parts: dict[str, Any]

    @property
    def digest(self) -> str:
        """The key itself, in hex."""
        return digest(self.parts)


class RecipeKeys:
    """Recipe keys of a graph of steps, each computed once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Step, Key, str]] = {}  # by id, which no other step gets while this one is kept

    def parts(self, step: Step) -> dict[str, Any]:
        """The parts of a step's recipe key."""
        return self._of(step)[1].parts

    def key(self, step: Step) -> str:
        """A step's recipe key."""
        return self._of(step)[2]

    def _of(self, step: Step) -> tuple[Step, Key, str]:
        if id(step) not in self._known:
            below = {
                name: {"recipe": self.key(dependency.step), "output": dependency.output}
                for name, dependency in step.dependencies().items()
            }
            key = Key({**_own_parts(step), "sources": dict(step.sources()), "dependencies": below})
            self._known[id(step)] = (step, key, key.digest)
        return self._known[id(step)]


def resolved_key(step: Step, sources: Mapping[str, str], inputs: Mapping[str, StepRecord]) -> Key:
    """A step's resolved key.

    Args:
        sources: Digests of their contents, see `Step.identify`.
        inputs: The finished steps that it depends on.
    """
    below = {name: inputs[name].outputs[dependency.output] for name, dependency in step.dependencies().items()}
    return Key({**_own_parts(step), "sources": dict(sources), "dependencies": below})


def _own_parts(step: Step) -> dict[str, Any]:
    return {"kind": step.kind, "version": step.version, "settings": dict(step.settings())}


def prediction_key(
    kind: str,
    *,
    weights: str,
    adapter: str | None,
    token_ids: Sequence[int],
    settings: Mapping[str, Any] | Sequence[Sequence[int]],
    precision: str,
    seed: int | None,
    streams: int | None = None,
    forced: Mapping[str, Any] | None = None,
) -> str:
    """The key of one stored row.

    Args:
        kind: "generate" or "score".
        weights: Fingerprint of the weights, never their name.
        adapter: Digest of the adapter's bytes.
        token_ids: The prompt as the model sees it.
        settings: Generation settings, or the continuations that are scored.
        precision: Number format of the arithmetic.
        seed: None where nothing is drawn at random.
        streams: Version of what random numbers are made from; None where nothing is drawn, which leaves the key as it
            was before there were versions.
        forced: The tokens that the model's own files put at the start and the end of an answer; None for none.
    """
    drawn = [] if streams is None else [streams]
    more = [] if not forced else [forced]
    return digest([kind, weights, adapter, list(token_ids), settings, precision, seed, *drawn, *more])


def changed_parts(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The parts of a key that differ, as (dotted path, before, now); None is a part that is missing."""
    changes: list[tuple[str, Any, Any]] = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changes += [(f"{name}.{path}", was, becomes) for path, was, becomes in changed_parts(old, new)]
        elif digest(_plain(old)) != digest(_plain(new)):
            changes.append((name, old, new))
    return changes


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
