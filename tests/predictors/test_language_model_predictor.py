"""The language-model predictor on a small random LLaMA: what the model sees, what it gives, and what a folder keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import germinal
from germinal.checkpoints.peft_folder import save_adapter
from germinal.errors import CheckpointError, ContextWindowError, SettingError
from germinal.generation.config import GenerationConfig
from germinal.language_model import LanguageModel
from germinal.layers.adapters import adapter_parts, add_adapter, network_adapters
from germinal.layers.lora_config import LoRAConfig
from germinal.predictors.answers import Answer, Labels, Output, decide, parse_label, priors_from
from germinal.predictors.language_model_predictor import LanguageModelPredictor
from germinal.predictors.loading import load_predictor
from germinal.progress import Progress
from germinal.text.context_window import ContextWindow
from germinal.text.prompt import Example, Prompt

LABELS = Labels({"pos": "Positive", "neg": "Negative"})
PROMPT = Prompt("Classify this review:", "Sentiment:")
SHOTS = [Example("I loved this movie!", "Positive"), Example("The plot was dull.", "Negative")]
REVIEWS = ["A film that is warm, funny and true.", "The acting was worse.", "Nobody should miss it.", "dull", ""]


@pytest.fixture(scope="module")
def lm(llama_folder: Path) -> LanguageModel:
    return germinal.load(llama_folder)


@pytest.fixture(scope="module")
def adapter(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEFT folder whose adapter changes answers."""
    donor = germinal.load(llama_folder)
    add_adapter(donor.network, "made", LoRAConfig(rank=2, alpha=4))
    torch.manual_seed(0)
    with torch.no_grad():
        for part in adapter_parts(donor.network, "made").values():
            part.B.normal_(std=0.3)
    folder = tmp_path_factory.mktemp("peft") / "adapter"
    save_adapter(donor.network, "made", folder, family=donor.family)
    return folder


def outputs(predictor: LanguageModelPredictor, inputs: list[str], wanted: set[str] | None = None) -> list[Output]:
    found = dict(predictor.outputs(inputs, wanted))  # type: ignore[arg-type]
    return [found[place] for place in range(len(inputs))]


def assert_alike(ours: list[Answer], theirs: list[Answer]) -> None:
    """Equal but for the last bits, which depend on what else the engine has computed and kept."""
    for first, second in zip(ours, theirs, strict=True):
        assert replace(first, probabilities=None) == replace(second, probabilities=None)
        assert first.probabilities == pytest.approx(second.probabilities, abs=1e-5)


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("shots", [0, 2])
def test_outputs_are_what_the_model_says_alone(lm: LanguageModel, chat: bool, shots: int) -> None:
    prompt = replace(PROMPT, chat=chat)
    predictor = LanguageModelPredictor(lm, prompt, LABELS, examples=SHOTS[:shots])
    both = outputs(predictor, REVIEWS, {"generate", "score"})
    for review, output, fitted in zip(REVIEWS, both, predictor.prompts_for(REVIEWS), strict=True):
        rendered = prompt.render(review, SHOTS[:shots])
        assert fitted.ids == lm.encode_prompt(rendered)
        alone = lm.generate(rendered, max_new_tokens=predictor.generation.max_new_tokens, temperature=0)
        assert (output.text, output.token_ids) == (alone.text, alone.token_ids)
        assert output.finish_reason == alone.finish_reason
        assert output.prompt_tokens == len(fitted.ids)
        assert output.label_logprobs is not None
        for label, ids in predictor.continuation_ids.items():
            logits = lm.logits([[*fitted.ids, *ids]])[0].log_softmax(-1)
            places = range(len(fitted.ids) - 1, len(fitted.ids) + len(ids) - 1)
            expected = sum(float(logits[place, id]) for place, id in zip(places, ids, strict=True))
            assert output.label_logprobs[label] == pytest.approx(expected, abs=1e-4)


def test_scores_of_a_plain_prompt_are_the_models_own(lm: LanguageModel) -> None:
    predictor = LanguageModelPredictor(lm, PROMPT, LABELS)
    for review, output in zip(REVIEWS, outputs(predictor, REVIEWS), strict=True):
        assert output.label_logprobs is not None
        expected = lm.score(PROMPT.text(review), [" Positive", " Negative"])
        assert list(output.label_logprobs.values()) == pytest.approx(expected, abs=1e-4)


def test_words_follow_the_prompt_as_one_text(lm: LanguageModel) -> None:
    for chat in (False, True):
        prompt = replace(PROMPT, chat=chat)
        predictor = LanguageModelPredictor(lm, prompt, LABELS)
        for fitted in predictor.prompts_for(REVIEWS):
            for label, word in LABELS.words.items():
                text = fitted.text + ("" if chat else " ") + word
                joint = lm.tokenizer.encode(text, add_special_tokens=not chat)
                assert (*fitted.ids, *predictor.continuation_ids[label]) == tuple(joint)


def test_what_is_not_wanted_is_not_computed(lm: LanguageModel) -> None:
    predictor = LanguageModelPredictor(lm, PROMPT, LABELS, "generate")
    (generated,) = outputs(predictor, REVIEWS[:1])
    (scored,) = outputs(predictor, REVIEWS[:1], {"score"})
    (both,) = outputs(predictor, REVIEWS[:1], {"generate", "score"})
    assert generated.label_logprobs is None
    assert (scored.text, scored.token_ids) == (None, ())
    assert (both.text, both.token_ids) == (generated.text, generated.token_ids)
    assert both.label_logprobs == pytest.approx(scored.label_logprobs, abs=1e-5)
    assert both.computed_tokens < generated.computed_tokens + scored.computed_tokens


def test_a_shared_start_is_computed_once(lm: LanguageModel) -> None:
    predictor = LanguageModelPredictor(lm, PROMPT, LABELS, examples=SHOTS)
    together = outputs(predictor, REVIEWS)
    assert sum(output.computed_tokens for output in together) < sum(output.prompt_tokens for output in together)


def test_answers_are_the_rule_over_outputs(lm: LanguageModel) -> None:
    scorer = LanguageModelPredictor(lm, PROMPT, LABELS, "likelihood")
    scored = outputs(scorer, REVIEWS)
    priors = priors_from(scored, LABELS)
    reports: list[Progress] = []
    assert_alike(scorer.predict(REVIEWS, reports.append), [decide("likelihood", output, LABELS) for output in scored])
    assert [report.done for report in reports] == [1, 2, 3, 4, 5]
    calibrated = LanguageModelPredictor(lm, PROMPT, LABELS, "calibrated", priors=priors).predict(REVIEWS)
    assert {answer.label for answer in calibrated} == {"pos", "neg"}  # no habit is left
    generator = LanguageModelPredictor(lm, PROMPT, LABELS, "generate")
    for answer, output in zip(generator.predict(REVIEWS), outputs(generator, REVIEWS), strict=True):
        assert answer.label == parse_label(output.text or "", LABELS)
    assert scorer.predict([]) == []


def test_many_inputs_are_asked_in_parts(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = LanguageModelPredictor(lm, PROMPT, LABELS)
    whole = predictor.predict(REVIEWS)
    monkeypatch.setattr("germinal.predictors.language_model_predictor._AT_ONCE", 2)
    reports: list[Progress] = []
    assert_alike(predictor.predict(REVIEWS, reports.append), whole)
    assert [(report.done, report.total) for report in reports] == [(place, 5) for place in range(1, 6)]


def test_a_server_can_ask_for_itself(lm: LanguageModel) -> None:
    predictor = LanguageModelPredictor(lm, PROMPT, LABELS)
    request, fitted = predictor.request(REVIEWS[0])
    ((_, response),) = lm.respond([request])
    answer = predictor.answer(predictor.output(response, fitted))
    (expected,) = predictor.predict(REVIEWS[:1])
    assert answer.label == expected.label
    assert answer.probabilities == pytest.approx(expected.probabilities, abs=1e-5)


def test_generation_is_short_and_greedy_unless_told_otherwise(lm: LanguageModel) -> None:
    predictor = LanguageModelPredictor(lm, PROMPT, LABELS)
    longest = max(len(ids) for ids in predictor.continuation_ids.values())
    assert predictor.generation.greedy
    assert predictor.generation.max_new_tokens == longest + 3
    assert predictor.generation.eos_ids == lm.generation_defaults.eos_ids
    told = GenerationConfig(max_new_tokens=2, temperature=0.5, seed=3)
    assert LanguageModelPredictor(lm, PROMPT, LABELS, generation=told).generation == told


def test_a_prompt_over_the_window_is_refused_with_its_place(lm: LanguageModel) -> None:
    predictor = LanguageModelPredictor(lm, PROMPT, LABELS, window=ContextWindow(40))
    with pytest.raises(ContextWindowError, match=r"input 2: the prompt has .* tokens") as error:
        predictor.predict(["dull", "dull " * 40])
    assert error.value.where == "input 2"


def test_the_windows_policy_is_followed_and_reported(lm: LanguageModel) -> None:
    size = len(LanguageModelPredictor(lm, PROMPT, LABELS, examples=SHOTS).prompts_for(["dull"])[0].ids)
    shorter = LanguageModelPredictor(lm, PROMPT, LABELS, examples=SHOTS, window=ContextWindow(size, "drop_examples"))
    (output,) = outputs(shorter, ["dull"])
    assert output.dropped_examples == 1
    cut = LanguageModelPredictor(lm, PROMPT, LABELS, window=ContextWindow(60, "truncate_input"))
    (output,) = outputs(cut, ["warm and true " * 30])
    assert output.truncated_tokens > 0
    assert output.prompt_tokens <= 60


def test_rule_and_priors_are_checked_before_anything_is_computed(lm: LanguageModel) -> None:
    with pytest.raises(SettingError, match="needs priors"):
        LanguageModelPredictor(lm, PROMPT, LABELS, "calibrated")
    with pytest.raises(SettingError, match="label 'neg' has no prior"):
        LanguageModelPredictor(lm, PROMPT, LABELS, "calibrated", priors={"pos": 1.0, "neg": 0.0})
    with pytest.raises(SettingError, match="takes no priors"):
        LanguageModelPredictor(lm, PROMPT, LABELS, priors={"pos": 0.5, "neg": 0.5})


def test_predictors_with_and_without_an_adapter_share_a_model(lm: LanguageModel, adapter: Path) -> None:
    before = outputs(LanguageModelPredictor(lm, PROMPT, LABELS), REVIEWS)
    tuned = LanguageModelPredictor(lm, PROMPT, LABELS, adapter=adapter)
    again = LanguageModelPredictor(lm, PROMPT, LABELS, "generate", adapter=adapter)
    assert tuned.adapter_name == again.adapter_name
    assert list(network_adapters(lm.network)).count(str(tuned.adapter_name)) == 1
    after = outputs(LanguageModelPredictor(lm, PROMPT, LABELS), REVIEWS)
    changed = outputs(tuned, REVIEWS)
    for old, new, adapted in zip(before, after, changed, strict=True):
        assert new.label_logprobs == pytest.approx(old.label_logprobs, abs=1e-5)
        assert adapted.label_logprobs != pytest.approx(old.label_logprobs, abs=0.01)


@pytest.mark.parametrize("held", [False, True], ids=["base by reference", "base in memory"])
@pytest.mark.parametrize("tuned", [False, True], ids=["plain", "tuned"])
def test_saved_is_loaded(llama_folder: Path, adapter: Path, tmp_path: Path, tuned: bool, held: bool) -> None:
    lm = germinal.load(llama_folder)
    predictor = LanguageModelPredictor(
        lm,
        PROMPT,
        LABELS,
        "calibrated",
        examples=SHOTS,
        priors={"pos": 0.7, "neg": 0.3},
        window=ContextWindow(200, "truncate_input", "left"),
        generation=GenerationConfig(max_new_tokens=4, stop=("\n",), logit_bias=((5, -1.5),)),
        adapter=adapter if tuned else None,
    )
    predictor.save(tmp_path / "saved")
    loaded = load_predictor(tmp_path / "saved", lm if held else None)
    assert isinstance(loaded, LanguageModelPredictor)
    for name in ("prompt", "labels", "rule", "examples", "priors", "window", "generation", "adapter_name"):
        assert getattr(loaded, name) == getattr(predictor, name), name
    assert list(loaded.labels.words) == list(LABELS.words)
    assert_alike(loaded.predict(REVIEWS), predictor.predict(REVIEWS))
    kept = sorted(file.suffix for file in (tmp_path / "saved").rglob("*") if file.is_file())
    assert set(kept) <= {".json", ".safetensors"}


def test_a_folder_with_weights_needs_nothing_else(llama_folder: Path, adapter: Path, tmp_path: Path) -> None:
    predictor = LanguageModelPredictor(germinal.load(llama_folder), PROMPT, LABELS, adapter=adapter)
    predictor.save(tmp_path / "saved", with_weights=True)
    (tmp_path / "saved").rename(tmp_path / "moved")
    loaded = load_predictor(tmp_path / "moved")
    assert_alike(loaded.predict(REVIEWS), predictor.predict(REVIEWS))


def test_another_base_model_is_refused(
    lm: LanguageModel, make_llama_folder: Callable[..., Path], tmp_path: Path
) -> None:
    LanguageModelPredictor(lm, PROMPT, LABELS).save(tmp_path / "saved")
    other = germinal.load(make_llama_folder(seed=1))
    with pytest.raises(CheckpointError, match="has other weights than when the predictor was saved"):
        load_predictor(tmp_path / "saved", other)


def test_a_damaged_folder_is_refused(lm: LanguageModel, tmp_path: Path) -> None:
    LanguageModelPredictor(lm, PROMPT, LABELS).save(tmp_path / "saved")
    path = tmp_path / "saved" / "predictor.json"
    whole = json.loads(path.read_text())
    for key in ("base", "prompt", "labels", "generation"):
        path.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        with pytest.raises(CheckpointError, match="damaged"):
            load_predictor(tmp_path / "saved", lm)
