"""Trials and their names, declared comparisons, keys and their parts, estimates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_project import TOML

from germinal.generation.sampler import STREAMS
from germinal.project import Project
from germinal.project.file.config import ProjectConfig
from germinal.project.file.reader import read_project_file
from germinal.project.plan.estimates import size_of
from germinal.project.plan.step_graph import StepGraph
from germinal.project.plan.trials import candidates_of, comparisons_of, trials_of
from germinal.project.steps.keys import RecipeKeys, changed_parts, prediction_key
from germinal.project.steps.model import short_name
from germinal.project.steps.predict import PredictStep, shared_tokens


@pytest.fixture
def config(tmp_path: Path) -> ProjectConfig:
    (tmp_path / "germinal.toml").write_text(TOML.format(model="smollm2-135m-instruct"), encoding="utf-8")
    return read_project_file(tmp_path)


def test_trials_have_readable_names(config: ProjectConfig) -> None:
    trials = trials_of(config)
    ids = [trial.id for trial in trials]
    assert ids[:3] == ["majority", "tfidf", "smollm2-135m-instruct/zero-shot/generate"]
    assert "smollm2-135m-instruct/2-shot/calibrated/seed-1" in ids
    assert ids[-1] == "smollm2-135m-instruct/lora-r2/zero-shot/calibrated"
    assert len(set(ids)) == len(ids) == 14
    assert len(candidates_of(trials)) == 11


def test_several_precisions_stand_in_the_name(config: ProjectConfig) -> None:
    both = config.model_copy(update={"apply": config.apply.model_copy(update={"precisions": ["float32", "bfloat16"]})})
    ids = {trial.candidate for trial in trials_of(both)}
    assert "smollm2-135m-instruct/bfloat16/zero-shot/likelihood" in ids


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("smollm2-135m-instruct", "smollm2-135m-instruct"),
        ("hf:org/Name-1B@main", "Name-1B"),
        ("org/Name-1B", "Name-1B"),
        ("models/tiny/", "tiny"),
        ("files/model.Q4_1.gguf", "model.Q4_1"),
        ("pypi:package==1.0/inside/weights.gguf", "weights"),
    ],
)
def test_short_names(reference: str, name: str) -> None:
    assert short_name(reference) == name


def test_models_with_one_short_name_are_told_apart(config: ProjectConfig) -> None:
    two = config.model_copy(update={"select": config.select.model_copy(update={"models": ["a/tiny", "b/tiny"]})})
    starts = {trial.id.split("/")[0] for trial in trials_of(two) if trial.model}
    assert starts == {"tiny", "b-tiny"}


def test_comparisons_are_declared_for_every_model_candidate(config: ProjectConfig) -> None:
    declared = comparisons_of(candidates_of(trials_of(config)))
    assert Counter(comparison.role for comparison in declared) == {"baseline": 9, "zero-shot": 8}
    references = {comparison.first: comparison.second for comparison in declared if comparison.role == "zero-shot"}
    model = "smollm2-135m-instruct"
    assert references[f"{model}/2-shot/likelihood"] == f"{model}/zero-shot/likelihood"
    assert references[f"{model}/lora-r2/zero-shot/calibrated"] == f"{model}/zero-shot/calibrated"
    assert references[f"{model}/zero-shot/likelihood"] == f"{model}/zero-shot/generate"
    assert f"{model}/zero-shot/generate" not in references


def test_equal_steps_are_one_step(config: ProjectConfig) -> None:
    graph, recipes = StepGraph(config), RecipeKeys()
    predictions = {recipes.key(graph.steps(trial, "dev")["predict/dev"]) for trial in graph.trials if trial.model}
    assert len(predictions) == 4  # zero-shot, two choices of examples, tuned: three rules share each
    tunings = {recipes.key(graph.steps(trial, "dev")["tune"]) for trial in graph.trials if trial.adapter}
    assert len(tunings) == 1


def test_a_recipe_key_names_everything_that_bears_on_the_result(config: ProjectConfig) -> None:
    graph, recipes = StepGraph(config), RecipeKeys()
    step = graph.steps(graph.trials[-1], "dev")["predict/dev"]
    parts = recipes.parts(step)
    assert parts["kind"] == "predict"
    assert parts["settings"]["prompt"]["instruction"] == "Classify:"
    assert set(parts["dependencies"]) == {"rows", "labels", "weights", "tokenizer", "adapter"}


def test_only_sampled_answers_depend_on_how_random_numbers_are_drawn(config: ProjectConfig) -> None:
    graph = StepGraph(config)
    steps = [step for trial in graph.trials for step in graph.steps(trial, "dev").values()]
    predict = next(step for step in steps if isinstance(step, PredictStep) and "generate" in step.wants)
    assert "streams" not in predict.settings()["generation"]
    sampled = replace(predict, generation={"temperature": 0.7, "seed": 0}).settings()["generation"]
    assert sampled == {"temperature": 0.7, "seed": 0, "streams": STREAMS}


def _key(**changes: object) -> str:
    parts: dict[str, object] = {
        "kind": "generate",
        "weights": "w",
        "adapter": None,
        "token_ids": (1, 2),
        "settings": {"max_new_tokens": 3},
        "precision": "float32",
        "seed": None,
    }
    parts |= changes
    return prediction_key(parts.pop("kind"), **parts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "score"},
        {"weights": "v"},
        {"adapter": "a"},
        {"token_ids": (1, 2, 3)},
        {"token_ids": (12,)},
        {"settings": {"max_new_tokens": 4}},
        {"settings": {"max_new_tokens": 3.0}},
        {"precision": "bfloat16"},
        {"seed": 0},
        {"streams": 2},
    ],
)
def test_a_prediction_key_changes_with_every_part(change: dict[str, object]) -> None:
    assert _key(**change) != _key()
    assert _key(token_ids=[1, 2]) == _key()


def test_changed_parts_are_found_at_any_depth() -> None:
    before = {"settings": {"prompt": {"instruction": "a", "chat": False}, "n": 1}, "gone": 1}
    now = {"settings": {"prompt": {"instruction": "b", "chat": False}, "n": 1.0}, "new": [1]}
    assert changed_parts(before, now) == [
        ("gone", 1, None),
        ("new", None, [1]),
        ("settings.n", 1, 1.0),
        ("settings.prompt.instruction", "a", "b"),
    ]
    assert changed_parts(now, now) == []


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6).map(tuple), min_size=1, max_size=6))
def test_a_shared_start_is_counted_once(prompts: list[tuple[int, ...]]) -> None:
    shared = 0
    while all(len(prompt) > shared for prompt in prompts) and len({prompt[shared] for prompt in prompts}) == 1:
        shared += 1
    assert shared_tokens(prompts) == sum(map(len, prompts)) - shared * (len(prompts) - 1)


def test_a_model_is_sized_without_reading_its_weights(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaForCausalLM

    expected = LlamaForCausalLM.from_pretrained(tiny_model).num_parameters()
    monkeypatch.setattr("safetensors.torch.load_file", None)
    assert size_of(tiny_model).parameters == expected


def test_the_plan_estimates_and_the_run_says_how_far_off_it_was(make_project: Callable[..., Project]) -> None:
    project = make_project()
    plan = project.plan()
    assert {trial.id for trial in plan.trials if trial.model} == set(plan.estimates)
    some = plan.estimates[plan.trials[2].id]
    assert some.memory_bytes > some.weight_bytes + some.cache_bytes + some.activation_bytes > some.weight_bytes > 0
    assert some.weight_bytes == 4 * some.parameters
    assert "measured on this machine" in some.basis
    tuned, untuned = plan.estimates[plan.trials[-2].id], plan.estimates[plan.trials[3].id]
    assert tuned.seconds > untuned.seconds
    project.run()
    for trial in project.ledger.results().trials:
        if trial.shot_seed is None and "/" in trial.id:
            assert trial.estimate is not None
            assert trial.estimate.memory_factor is not None
            assert 0.5 < trial.estimate.memory_factor < 2
            assert trial.estimate.seconds_factor is not None
            assert 0 < abs(trial.estimate.tokens / trial.cost.tokens) < 3
    assert "earlier steps" in project.plan().estimates[trial.id].basis
