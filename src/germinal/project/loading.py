"""A trial in the ledger becomes a predictor: the same model, prompt, examples, adapter, rule and priors."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from germinal.errors import LedgerError
from germinal.ledger import CandidateRecord, Ledger, StepRecord
from germinal.predictors.loading import load_predictor
from germinal.predictors.predictor import Predictor
from germinal.progress import Reporter, silent
from germinal.project.file.config import ProjectConfig
from germinal.project.plan.trials import HEAD
from germinal.project.steps.base import artifact_of
from germinal.project.steps.model import check_measured
from germinal.project.steps.model_cache import ModelCache
from germinal.project.steps.prompted import PromptSpec, adapter_folder, make_predictor


def load_winner(ledger: Ledger, folder: Path, artifacts: Path, reporter: Reporter = silent) -> Predictor:
    """Load what the latest finished run over all rows chose; a trial run (--limit) counts if there is no other.

    Raises:
        LedgerError: no run is finished, or the files that the trial left are gone.
    """
    choice = ledger.results().choice
    if choice is None:
        raise LedgerError("the last run chose nothing.", where=ledger.location, hint="Run the project again.")
    return load_trial(ledger, folder, artifacts, choice.winner_trial, reporter)


def load_trial(ledger: Ledger, folder: Path, artifacts: Path, trial_id: str, reporter: Reporter = silent) -> Predictor:
    """Load any trial of the run that `load_winner` takes.

    Raises:
        LedgerError: no run is finished, it had no such trial, or the files that the trial left are gone or damaged.
        UnsafeFileError: the ledger names files that lie outside `artifacts`.
    """
    results = ledger.results()
    steps = {role: ledger.step(key) for role, key in results.trial(trial_id).steps.items()}
    for step in steps.values():
        if step.artifact is not None:
            artifact_of(step, artifacts)
    candidate = results.candidate(results.trial(trial_id).candidate)
    try:
        fitted = steps["tune"] if candidate.adapter == HEAD else steps.get("fit")
        if fitted is not None:
            return load_predictor(artifact_of(fitted, artifacts))
        config = ProjectConfig.model_validate(results.run.config)
        return _language_model(config, candidate, steps, ModelCache(folder, reporter), artifacts)
    except (KeyError, ValidationError) as error:
        what = f"is damaged: it does not say how the trial '{trial_id}' answers ({error})."
        raise LedgerError(what, where=ledger.location, hint="Run the project again.") from error


def _language_model(
    config: ProjectConfig,
    candidate: CandidateRecord,
    steps: dict[str, StepRecord],
    models: ModelCache,
    artifacts: Path,
) -> Predictor:
    if candidate.model is None or candidate.precision is None:
        raise KeyError("model")
    lm = models.get(candidate.model, candidate.precision)
    check_measured(lm, steps["model"])
    prompt_spec = PromptSpec(config.adapt.prompt, config.scope.labels)
    return make_predictor(
        lm,
        prompt_spec,
        prompt_spec.labels(steps["data"].values["labels"]),
        pairs=steps["examples"].values["examples"] if "examples" in steps else (),
        adapter=adapter_folder(steps["tune"], artifacts) if "tune" in steps else None,
        generation=config.generation,
        rule=candidate.rule,  # type: ignore[arg-type]
        priors=steps["calibrate"].values["priors"] if "calibrate" in steps else None,
    )
