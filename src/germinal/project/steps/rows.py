"""A model's outputs row by row: what the ledger has is taken, the rest is computed and stored in small batches.

A row's key is made of weights, adapter, token ids, settings, precision and seed. So a new row costs one prediction, two
steps with the same prompt share theirs, and a killed run loses at most one batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from germinal.data import Row
from germinal.generation.sampler import STREAMS
from germinal.ledger import Ledger
from germinal.ledger.records import Prediction, PredictionLink, StepRecord
from germinal.predictors.answers import Output
from germinal.predictors.language_model_predictor import LanguageModelPredictor, Want
from germinal.progress import Progress
from germinal.project.steps.base import StepContext
from germinal.project.steps.keys import prediction_key
from germinal.text.context_window import FittedPrompt

BATCH = 32
"""Rows that are stored together, once they are computed."""

_KEPT: dict[Want, tuple[str, ...]] = {
    "generate": ("text", "finish_reason", "token_ids", "computed_tokens"),
    "score": ("label_logprobs", "computed_tokens"),
}


@dataclass(frozen=True, slots=True)
class Identity:
    """What a model's outputs depend on beside the prompt: contents, never names."""

    weights: str
    adapter: str | None
    precision: str


def _forced(predictor: LanguageModelPredictor) -> dict[str, Any] | None:
    """The tokens that the model's own files put at the start and the end of an answer; None where there are none."""
    conventions = predictor.lm.conventions
    return {name: conventions[name] for name in ("answer_start", "forced_eos_id") if name in conventions} or None


@dataclass(frozen=True, slots=True)
class Answered:
    """The outputs of some rows, and what they cost.

    Attributes:
        outputs: One for each row, in their order.
        prompts: The prompts as the model saw them.
        links: Where the ledger has the outputs.
        seconds: The time that it took to compute them, whenever that was.
        peak_memory_bytes: The highest memory while they were computed.
    """

    outputs: list[Output]
    prompts: list[FittedPrompt]
    links: list[PredictionLink]
    seconds: float
    peak_memory_bytes: int | None


def answer_rows(
    context: StepContext,
    predictor: LanguageModelPredictor,
    identity: Identity,
    rows: Sequence[Row],
    wants: Sequence[Want],
    task: str,
) -> Answered:
    """The outputs of all rows, taken from the ledger where it has them.

    Args:
        wants: What to compute for each row.
        task: What progress is reported under.

    Raises:
        ContextWindowError: a prompt does not fit, and the policy does not make it.
    """
    prompts = list(predictor.prompts_for([row.input for row in rows]))
    keys = [{want: _key(want, predictor, prompt, identity) for want in wants} for prompt in prompts]
    stored = context.ledger.predictions(key for of_row in keys for key in of_row.values())
    missing = [place for place, of_row in enumerate(keys) if any(key not in stored for key in of_row.values())]
    context.rows.predicted += len(missing)
    context.rows.reused += len(rows) - len(missing)
    failed: dict[int, Output] = {}
    done = count(len(rows) - len(missing) + 1)

    def tick() -> None:
        context.report(Progress(task, next(done), len(rows), "examples"))

    for batch in _computed(context, predictor, rows, keys, set(stored), missing, tick):
        context.ledger.store_predictions(batch.predictions, context.run_id)
        failed |= batch.failed
    stored |= context.ledger.predictions(key for place in missing for key in keys[place].values())
    outputs = [
        failed[place] if place in failed else _assembled([stored[key] for key in keys[place].values()], prompts[place])
        for place in range(len(rows))
    ]
    used = {key: stored[key] for place, of_row in enumerate(keys) if place not in failed for key in of_row.values()}
    peaks = [row.peak_memory_bytes for row in used.values() if row.peak_memory_bytes is not None]
    links = [
        PredictionLink(row.id, place, *(keys[place].get(want) if place not in failed else None for want in _KEPT))
        for place, row in enumerate(rows)
    ]
    return Answered(outputs, prompts, links, sum(row.seconds for row in used.values()), max(peaks, default=None))


@dataclass(frozen=True, slots=True)
class _Batch:
    predictions: list[Prediction]
    failed: dict[int, Output]


def _computed(
    context: StepContext,
    predictor: LanguageModelPredictor,
    rows: Sequence[Row],
    keys: Sequence[Mapping[Want, str]],
    stored: set[str],
    missing: Sequence[int],
    tick: Callable[[], None],
) -> Iterator[_Batch]:
    """What is missing, in batches as they finish. Rows that lack different things go in different batches."""
    groups: dict[tuple[Want, ...], list[int]] = {}
    asked: set[str] = set(stored)
    for place in missing:
        lacks = tuple(want for want, key in keys[place].items() if key not in asked)
        asked |= set(keys[place].values())
        if lacks:  # rows with equal prompts are computed once
            groups.setdefault(lacks, []).append(place)
    for lacks, places in groups.items():
        started = time.perf_counter()
        batch: list[tuple[int, Output]] = []
        finished = predictor.outputs([rows[place].input for place in places], wanted=set(lacks))
        for number, (index, output) in enumerate(finished, start=1):
            batch.append((places[index], output))
            tick()
            if len(batch) == BATCH or number == len(places):
                now = time.perf_counter()
                yield _batch(batch, keys, lacks, (now - started) / len(batch), context.peak_memory())
                started, batch = now, []


def _batch(
    batch: Sequence[tuple[int, Output]],
    keys: Sequence[Mapping[Want, str]],
    wants: Sequence[Want],
    seconds: float,
    peak: int | None,
) -> _Batch:
    predictions: list[Prediction] = []
    failed: dict[int, Output] = {}
    for place, output in batch:
        if output.error is not None:  # never cached: the next run tries again
            failed[place] = output
            continue
        plain = output.to_json()
        for want in wants:
            kept = {name: plain[name] for name in _KEPT[want]}
            predictions.append(Prediction(keys[place][want], want, kept, seconds / len(wants), peak))
    return _Batch(predictions, failed)


def _key(want: Want, predictor: LanguageModelPredictor, prompt: FittedPrompt, identity: Identity) -> str:
    generation = predictor.generation
    settings: Any = generation.to_dict() if want == "generate" else predictor.continuation_ids
    return prediction_key(
        want,
        weights=identity.weights,
        adapter=identity.adapter,
        token_ids=prompt.ids,
        settings=settings,
        precision=identity.precision,
        seed=generation.seed if want == "generate" else None,
        streams=None if want == "score" or generation.greedy else STREAMS,
        forced=_forced(predictor),
    )


def _assembled(parts: Sequence[Prediction], prompt: FittedPrompt) -> Output:
    plain: dict[str, Any] = {}
    for part in parts:
        plain |= part.output
    plain["token_ids"] = tuple(plain.get("token_ids", ()))
    return replace(
        Output(**plain),
        prompt_tokens=len(prompt.ids),
        dropped_examples=prompt.dropped_examples,
        truncated_tokens=prompt.truncated_tokens,
    )


def outputs_of(ledger: Ledger, predict: StepRecord) -> list[dict[str, Any]]:
    """The outputs of a finished predict step, in the split's order, as plain JSON."""
    links = ledger.linked(predict.key)
    errors: Mapping[str, Any] = predict.values.get("failed", {})
    keys = [key for link in links for key in (link.generation_key, link.score_key) if key]
    stored = ledger.predictions(keys)
    found: list[dict[str, Any]] = []
    for link in links:
        plain: dict[str, Any] = dict(errors.get(link.row_id, {}))
        for key in (link.generation_key, link.score_key):
            plain |= stored[key].output if key else {}
        found.append(plain)
    return found
