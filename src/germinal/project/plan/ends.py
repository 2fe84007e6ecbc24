"""Where the answers of a plan's models end, by the tokens' own spelling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from germinal.checkpoints import tokenizer_at
from germinal.checkpoints.answer_ends import answer_ends
from germinal.project.plan.trials import Trial
from germinal.project.steps.model import locate


def ends_by_model(trials: Sequence[Trial], folder: Path, *, chat: bool) -> dict[str, tuple[str, ...]]:
    """Model -> the tokens at which its generated answers end, of models that are prompted and are here.

    Args:
        folder: Where relative paths start.
        chat: Whether prompts go through the chat template, whose end of a turn ends an answer too.

    Raises:
        CheckpointError: a model's tokenizer is missing or malformed.
    """
    counted = ("every answer", "answers in a chat") if chat else ("every answer",)
    found: dict[str, tuple[str, ...]] = {}
    for model in dict.fromkeys(trial.model for trial in trials if trial.model and trial.rule):
        path = locate(model, folder, fetch=False)
        if path is not None:
            tokenizer = tokenizer_at(path, model)
            ids = [end.id for end in answer_ends(path, tokenizer) if end.ends in counted]
            found[model] = tuple(tokenizer.pieces(ids))
    return found
