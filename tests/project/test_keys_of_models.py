"""What a model's folder says of answers counts in the keys of steps and predictions, and nothing else does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from germinal import load
from germinal.errors import CheckpointError, LedgerError
from germinal.predictors.answers import Labels
from germinal.predictors.language_model_predictor import LanguageModelPredictor
from germinal.predictors.loading import load_predictor
from germinal.project import Project
from germinal.project.steps.model import outputs_of, source_digests
from germinal.text.prompt import Prompt

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    edit("tokenizer_config.json", chat_template=TEMPLATE)(folder)
    return folder


def edit(file: str, **values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
        (folder / file).write_text(json.dumps({**content, **values}))

    return change


def edit_tokenizer(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edited(folder: Path) -> None:
        content = json.loads((folder / "tokenizer.json").read_text())
        change(content)
        (folder / "tokenizer.json").write_text(json.dumps(content))

    return edited


def other_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def no_prefix_space(content: dict[str, Any]) -> None:
    content["pre_tokenizer"]["add_prefix_space"] = not content["pre_tokenizer"].get("add_prefix_space", False)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(other_weights, id="weights"),
        pytest.param(edit("config.json", rms_norm_eps=1e-3), id="config: norm"),
        pytest.param(edit("config.json", rope_theta=500.0, rope_parameters=None), id="config: rope"),
        pytest.param(edit("config.json", eos_token_id=5), id="config: end"),
        pytest.param(edit("generation_config.json", eos_token_id=5), id="end"),
        pytest.param(edit("generation_config.json", eos_token_id=[1, 5]), id="two ends"),
        pytest.param(edit("tokenizer_config.json", chat_template=TEMPLATE + "\n"), id="template"),
        pytest.param(lambda folder: (folder / "chat_template.jinja").write_text(TEMPLATE + "x"), id="template's file"),
        pytest.param(edit("tokenizer_config.json", image_token="<image>"), id="template's variable"),
        pytest.param(edit("tokenizer_config.json", eos_token="a"), id="special token"),
        pytest.param(edit("tokenizer_config.json", split_special_tokens=True), id="flag"),
        pytest.param(edit_tokenizer(no_prefix_space), id="tokenizer"),
        pytest.param(edit_tokenizer(lambda content: content["model"]["merges"].pop()), id="tokenizer: merges"),
    ],
)
def test_what_bears_on_answers_changes_the_outputs_of_the_model_step(
    model: Path, change: Callable[[Path], object]
) -> None:
    (model / "generation_config.json").unlink(missing_ok=True)
    before, files = outputs_of(load(model)), source_digests(model)
    change(model)
    assert outputs_of(load(model)) != before
    assert source_digests(model) != files  # so that the step looks


@pytest.mark.parametrize("name", ["pytorch_model.bin", "1_Pooling/config.json", "vocab.txt", "templates/tool.jinja"])
def test_a_file_of_any_kind_that_may_be_read_is_looked_at(model: Path, name: str) -> None:
    before = source_digests(model)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("{}")
    assert source_digests(model) != before


def reformat(folder: Path) -> None:
    for file in folder.glob("*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()), indent=7, sort_keys=True), encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda folder: (folder / "README.md").write_text("A card"), id="card"),
        pytest.param(lambda folder: (folder / "LICENSE.txt").write_text("Mine"), id="licence"),
        pytest.param(lambda folder: (folder / ".cache.json").write_text("{}"), id="hidden"),
        pytest.param(reformat, id="formatting"),
    ],
)
def test_what_does_not_bear_on_answers_is_not_even_looked_at(model: Path, change: Callable[[Path], object]) -> None:
    before, files = outputs_of(load(model)), source_digests(model)
    change(model)
    assert (outputs_of(load(model)), source_digests(model)) == (before, files)


@pytest.mark.parametrize(
    "change",
    [
        edit("config.json", transformers_version="1.2.3", _name_or_path="elsewhere"),
        edit("generation_config.json", eos_token_id=1, transformers_version="1.2.3"),
        edit("generation_config.json", eos_token_id=[1]),
    ],
)
def test_other_words_for_the_same_change_no_output(model: Path, change: Callable[[Path], object]) -> None:
    edit("generation_config.json", eos_token_id=1)(model)
    edit("tokenizer_config.json", eos_token=load(model).tokenizer.pieces([1])[0])(model)
    before = outputs_of(load(model))
    change(model)
    assert outputs_of(load(model)) == before


def test_the_start_and_forced_tokens_of_an_encoder_decoder_count(tmp_path: Path) -> None:
    import transformers
    from tiny_models import small_tokenizer

    tokenizer = small_tokenizer()
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(
        vocab_size=len(tokenizer), decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, **sizes
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    seen = [outputs_of(load(tmp_path))]
    for change in (
        edit("generation_config.json", decoder_start_token_id=4),
        edit("generation_config.json", forced_bos_token_id=5),
        edit("generation_config.json", forced_eos_token_id=6),
    ):
        change(tmp_path)
        seen.append(outputs_of(load(tmp_path)))
    assert len({outputs["tokenizer"] for outputs in seen}) == 4
    assert len({outputs["weights"] for outputs in seen}) == 1


def test_whether_an_encoder_is_told_token_types_counts_and_to_be_told_is_as_it_was(tmp_path: Path) -> None:
    from test_golden import save_even_encoder

    save_even_encoder(tmp_path / "encoder")
    told = load(tmp_path / "encoder").fingerprint
    edit("tokenizer_config.json", model_input_names=["input_ids", "token_type_ids", "attention_mask"])(
        tmp_path / "encoder"
    )
    assert load(tmp_path / "encoder").fingerprint == told
    edit("tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])(tmp_path / "encoder")
    assert load(tmp_path / "encoder").fingerprint != told


SMALL = (
    'baselines = ["majority", "tfidf"]',
    'baselines = ["majority"]',
    "shots = [0, 2]",
    "shots = [0]",
    '["generate", "likelihood", "calibrated"]',
    '["generate"]',
    "[adapt.lora]\nrank = 2\nmicro_batch_size = 4\nlearning_rate = 0.01\n",
    "",
)


def test_an_end_that_is_changed_in_place_is_told_and_asked_again(
    make_project: Callable[..., Project], model: Path, tiny_model: Path
) -> None:
    project = make_project(*SMALL, str(tiny_model), str(model))
    edit("generation_config.json", eos_token_id=1)(model)
    first = project.run()
    trial = next(trial.id for trial in project.plan().trials if trial.model)
    edit("generation_config.json", eos_token_id=[1, *range(10, 200)])(model)
    with pytest.raises(LedgerError, match="what its answers begin and end with"):
        project.predictor(trial)
    told = {step.role: [part.part for part in step.changed] for step in project.why(trial).steps}
    assert told["model"] == ["sources.generation_config.json"]
    assert project.run().rows_predicted == 24
    assert project.predictor(trial) is not None
    edit("generation_config.json", eos_token_id=1)(model)
    again = project.run()
    assert (again.steps_run.total(), again.rows_predicted) == (0, 0)
    assert first.rows_predicted > 24


def test_a_saved_predictor_knows_the_template_that_it_was_saved_with(model: Path, tmp_path: Path) -> None:
    labels = Labels.of(["good", "bad"])
    LanguageModelPredictor(load(model), Prompt("Is it?", "It is:"), labels).save(tmp_path / "saved")
    assert load_predictor(tmp_path / "saved") is not None
    edit("tokenizer_config.json", chat_template="other")(model)
    with pytest.raises(CheckpointError, match="chat template or its generation_config"):
        load_predictor(tmp_path / "saved")


def test_files_of_a_step_that_are_changed_are_not_answered_from(make_project: Callable[..., Project]) -> None:
    project = make_project(*SMALL, 'models = ["', 'models = [] # ["')
    project.run()
    (saved,) = (project.artifacts).glob("fit-*/predictor.json")
    saved.write_text(saved.read_text().replace('"pos": 0.', '"pos": 1.'))
    with pytest.raises(LedgerError, match="were changed since"):
        project.winner()
    fitted = next(step for step in project.why("majority").steps if step.role == "fit")
    assert (fitted.state, fitted.lacking) == ("run", "its files are gone, or were changed")
    assert project.run().steps_run["fit"] == 1
    assert project.winner() is not None
