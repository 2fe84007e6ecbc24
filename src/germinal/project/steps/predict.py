"""The predict step of a prompted language model: an output for every row of a split.

One step computes what all answer rules need, generated text and labels' likelihoods, in one pass over a prompt. The
rules are applied when measuring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from germinal.data import Row
from germinal.generation.sampler import STREAMS
from germinal.predictors.language_model_predictor import LanguageModelPredictor, Want
from germinal.project.steps.base import Dependency, StepContext, StepResult
from germinal.project.steps.data import rows_of
from germinal.project.steps.prompted import PromptedStep, check_targets
from germinal.project.steps.rows import Answered, answer_rows
from germinal.storage import digest
from germinal.text.context_window import FittedPrompt

SHOWN_PROMPTS = 5


@dataclass(frozen=True)
class PredictStep(PromptedStep):
    """Compute a language model's outputs for a split. Outputs: `generate` and `score`, as far as they are wanted.

    Each has a digest of its own: what is measured on one does not run again when the other is added.
    """

    kind: ClassVar[str] = "predict"
    version: ClassVar[int] = 3

    split: str
    wants: tuple[Want, ...]
    generation: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"predict {self.split}: {self.title}"

    def settings(self) -> Mapping[str, Any]:
        generation = dict(self.generation) if "generate" in self.wants else None
        if generation and generation.get("temperature"):
            generation["streams"] = STREAMS
        return {
            "prompt": self.prompt_spec.key_parts(),
            "wants": list(self.wants),
            "generation": generation,
            "precision": self.model.precision,
        }

    def dependencies(self) -> Mapping[str, Dependency]:
        return {**super().dependencies(), "rows": Dependency(self.data, self.split)}

    def num_examples(self, rows: Mapping[str, int]) -> int:
        return rows[self.split]

    def run(self, context: StepContext) -> StepResult:
        rows = rows_of(context.inputs["rows"], self.split, context.artifact.parent)
        predictor = self.predictor(context, self.generation)
        check_targets(predictor, rows)
        answered = answer_rows(context, predictor, self.identity(context), rows, self.wants, self.name)
        context.ledger.link_predictions(context.key, answered.links)
        failed = {
            row.id: output.to_json()
            for row, output in zip(rows, answered.outputs, strict=True)
            if output.error is not None
        }
        # Tokens that go through the network: the last one of a text or a label does not, as nothing follows it.
        scored = sum(len(ids) - 1 for ids in predictor.continuation_ids.values()) if "score" in self.wants else 0
        tokens = {
            "prompt": _read_tokens(predictor, answered),
            "generated": sum(len(out.token_ids) - (out.finish_reason == "length") for out in answered.outputs),
            "scored": scored * len(rows),
        }
        values = {
            "parameters": context.inputs["weights"].values["parameters"],
            "tokens": tokens,
            "prompts": shown(rows, answered.prompts),
            "dropped_examples": sum(prompt.dropped_examples for prompt in answered.prompts),
            "truncated_tokens": sum(prompt.truncated_tokens for prompt in answered.prompts),
            "failed": failed,
            **({} if predictor.labels else {"cut": sum(out.finish_reason == "length" for out in answered.outputs)}),
        }
        essence: Any = {want: _essence(want, rows, answered) for want in self.wants}
        return StepResult(
            {want: digest([essence[want], tokens["prompt"], values["parameters"]]) for want in self.wants},
            values,
            seconds=answered.seconds,
            peak_memory_bytes=answered.peak_memory_bytes,
            complete=not failed,
        )


def shared_tokens(prompts: Sequence[tuple[int, ...]]) -> int:
    """Tokens of all prompts; the start that they share counts once."""
    first, last = min(prompts), max(prompts)  # no two prompts differ earlier than these
    shared = next(
        (place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last))
    )
    return shared + sum(len(prompt) - shared for prompt in prompts)


def _read_tokens(predictor: LanguageModelPredictor, answered: Answered) -> int:
    """Tokens of the prompts that go through the network. An encoder reads each prompt whole, whatever they share."""
    prompts = [prompt.ids for prompt in answered.prompts]
    return sum(map(len, prompts)) if predictor.lm.two_stacks else shared_tokens(prompts)


def _essence(want: Want, rows: Sequence[Row], answered: Answered) -> list[list[Any]]:
    """What later steps depend on. The number of computed tokens, which depends on the rest of a batch, is left out."""
    if want == "score":
        return [[row.id, out.label_logprobs, out.error] for row, out in zip(rows, answered.outputs, strict=True)]
    return [
        [row.id, out.text, list(out.token_ids), out.finish_reason, out.error]
        for row, out in zip(rows, answered.outputs, strict=True)
    ]


def shown(rows: Sequence[Row], prompts: Sequence[FittedPrompt]) -> list[dict[str, Any]]:
    """The first prompts, exactly as the model read them."""
    return [
        {
            "row_id": row.id,
            "text": prompt.text,
            "tokens": len(prompt.ids),
            "dropped_examples": prompt.dropped_examples,
            "truncated_tokens": prompt.truncated_tokens,
        }
        for row, prompt in list(zip(rows, prompts, strict=False))[:SHOWN_PROMPTS]
    ]
