"""germinal.toml: DESIGN's file parses, errors name file, line, key, what was expected and the nearest name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from germinal.errors import ProjectFileError
from germinal.project.file.config import LoRASettings, ProjectConfig
from germinal.project.file.reader import key_line, read_project_file
from germinal.project.file.schema import SCHEMA_FILE, schema_text

DESIGN = """\
# germinal.toml
seed = 0

[scope]
use_case = "Say whether a film review is positive or negative"
task     = "classification"           # classification | summarization | translation | extraction |
                                      # question-answering | code | chat | generation
data     = "reviews.csv"              # csv, jsonl, parquet, a folder, or a Hugging Face dataset id
input    = "text"
target   = "label"                    # labels may be given other words: labels = { pos = "Positive", neg = "Negative" }
split    = { dev = 300, test = 300 }  # the rest trains; rows go to splits by hash, or by `group` when sources repeat
metrics  = ["accuracy", "f1_macro"]
success  = { accuracy = 0.8 }         # the run says plainly whether this was reached
limits   = { memory_gb = 4, latency_ms = 300 }

[select]
models    = ["smollm2-135m-instruct"] # an alias, a folder, a .gguf file, or a Hugging Face id
baselines = ["majority", "tfidf"]     # is a language model needed at all?

[adapt.prompt]
instruction = "Classify this review:"
answer      = "Sentiment:"            # where the answer starts
chat        = false                   # true: through the model's chat template
shots       = [0, 1, 4]
shot_seeds  = [0, 1, 2]               # few-shot results swing with the choice of examples: measured as replicates
rules       = ["generate", "likelihood", "calibrated"]

[adapt.lora]                          # tuned on the zero-shot prompt
rank = 8
epochs = 1

[apply]
precisions = ["float32"]
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str = DESIGN) -> Path:
        file = tmp_path / "germinal.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def refused(file: Path, *overrides: str) -> ProjectFileError:
    with pytest.raises(ProjectFileError) as caught:
        read_project_file(file, overrides)
    assert caught.value.exit_code == 3
    return caught.value


def test_the_file_of_the_design_parses_from_file_or_folder(write) -> None:
    file = write()
    config = read_project_file(file)
    assert config == read_project_file(file.parent)
    assert config.scope.split.dev == 300
    assert config.scope.limits.memory_gb == 4
    assert config.select.models == ["smollm2-135m-instruct"]
    assert config.adapt.prompt.shots == [0, 1, 4]
    assert config.adapt.lora is not None
    assert (config.adapt.lora.rank, config.adapt.lora.epochs) == (8, 1)
    assert config.apply.precisions == ["float32"]


def test_every_table_but_scope_may_be_left_out(write) -> None:
    config = read_project_file(
        write('[scope]\ndata = "a.csv"\ninput = "i"\ntarget = "t"\nsplit = { dev = 0.1, test = 0.2 }\n')
    )
    assert config.select.baselines == ["majority", "tfidf"]
    assert config.adapt.lora is None
    assert config.scope.split.dev == 0.1


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("metrics  =", "metrix  =", 12, ["there is no key 'metrix' in [scope]", "Did you mean 'metrics'?"]),
        ("[select]", "[selekt]", 16, ["there is no key 'selekt' at the top", "Did you mean 'select'?"]),
        ('"classification"  ', '"classificaton"  ', 6, ["expected one of", "Did you mean 'classification'?"]),
        ('["accuracy", "f1_macro"]', '["acuracy"]', 12, ["no metric 'acuracy'", "Did you mean 'accuracy'?"]),
        ('"generate", "likelihood"', '"generate", "likelyhood"', 26, ["Did you mean 'likelihood'?"]),
        ('["majority", "tfidf"]', '["majorty"]', 18, ["Did you mean 'majority'?"]),
        ("dev = 300,", 'dev = "300",', 11, ["scope.split.dev", "expected", 'found "300"']),
        ("rank = 8", "rank = 0", 29, ["adapt.lora.rank", "greater than or equal to 1", "found 0"]),
        ("rank = 8", "rank = true", 29, ["adapt.lora.rank", "found true"]),
        ("chat        = false", 'chat        = "no"', 23, ["adapt.prompt.chat", "boolean"]),
        ("{ accuracy = 0.8 }", "{ accuracy = 80 }", 13, ["scope.success.accuracy", "found 80", "goes from 0 to 1"]),
        ("{ accuracy = 0.8 }", "{ acuracy = 0.8 }", 13, ["'acuracy' is not among scope.metrics", "'accuracy'"]),
        ('precisions = ["float32"]', 'precisions = ["int8"]', 33, ["float32", "bfloat16", 'found "int8"']),
        ('input    = "text"\n', "", 4, ["the key 'input' is missing from [scope]", "holds the input"]),
        ("shots       = [0, 1, 4]", "shots       = [0, 1, 1]", None, ["adapt.prompt.shots names something twice"]),
        ("seed = 0", 'seed = "x"', 2, ["seed: expected integer"]),
        ("[0, 1, 2] ", "[] ", 25, ["adapt.prompt.shot_seeds", "at least 1 item"]),
    ],
)
def test_errors_name_file_line_key_and_nearest(write, old: str, new: str, line: int | None, said: list[str]) -> None:
    assert old in DESIGN
    file = write(DESIGN.replace(old, new, 1))
    error = str(refused(file))
    assert error.startswith(f"{file}:{line}: " if line else str(file)), error
    for words in said:
        assert words in error, error


def test_several_errors_are_all_named(write) -> None:
    error = refused(write(DESIGN.replace("rank = 8", "rank = 0").replace("seed = 0", 'seed = "x"')))
    assert "Also wrong: " in str(error)


def test_generation_settings_are_checked_as_everywhere(write) -> None:
    file = write(DESIGN + "\n[apply.generation]\ntop_p = 0.9\n")
    assert "no effect at temperature 0" in str(refused(file))
    assert str(refused(file)).startswith(f"{file}:35: ")
    assert "n has no effect here" in str(refused(write(DESIGN + "\n[apply.generation]\ntemperature = 1.0\nn = 2\n")))
    ok = read_project_file(write(DESIGN + "\n[apply.generation]\nmax_new_tokens = 5\n"))
    assert ok.apply.generation == {"max_new_tokens": 5}


def test_nothing_to_try_is_refused(write) -> None:
    text = DESIGN.replace('["smollm2-135m-instruct"]', "[]").replace('["majority", "tfidf"]', "[]")
    assert "nothing to try" in str(refused(write(text)))


def test_toml_syntax_errors_name_the_line(write) -> None:
    file = write(DESIGN.replace("seed = 0", "seed = = 0"))
    assert str(refused(file)).startswith(f"{file}:2: is not valid TOML: ")
    file.write_bytes(b"seed = 0 # \xff\n")
    assert "UTF-8" in str(refused(file))


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    assert "germinal init" in str(refused(tmp_path))
    assert "no such project file" in str(refused(tmp_path / "other.toml"))


def test_overrides_are_toml_and_come_before_validation(write) -> None:
    file = write(DESIGN.replace("rank = 8", "rank = 0"))  # an override can mend the file
    config = read_project_file(file, ["adapt.lora.rank=4", 'select.models=["a", "b"]', "apply.generation.stop=['x']"])
    assert config.adapt.lora is not None
    assert (config.adapt.lora.rank, config.select.models) == (4, ["a", "b"])
    assert config.apply.generation == {"stop": ["x"]}
    assert "seed = 0" in file.read_text()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("adapt.lora.rank", "expected key.path=value"),
        ("select.models=smollm2", "Put text in quotes"),
        ("seed.x=1", "'seed' is not a table"),
        ("adapt.lora.rnk=4", "Did you mean 'rank'?"),
        ('scope.metrics=["acc"]', "--set scope.metrics"),
    ],
)
def test_errors_of_overrides_name_the_override(write, override: str, said: str) -> None:
    error = str(refused(write(), override))
    assert said in error
    assert error.startswith("--set ")


def test_lines_of_keys_are_found_through_comments_tables_and_long_values() -> None:
    text = "\n".join(
        [
            "# [scope]",  # 1
            "a.b = 1",
            'long = """',
            "[scope]",
            "b = 2",
            '"""',  # 6
            "[scope] # here",
            "list = [",
            "  'c = 3',",
            "]",
            '"odd key" = { x = 1, y = { z = 2 } }',  # 11
            "[[scope.more]]",
            "k = 1",
        ]
    )
    assert key_line(text, ("a", "b")) == 2
    assert key_line(text, ("long",)) == 3
    assert key_line(text, ("scope",)) == 7
    assert key_line(text, ("scope", "list")) == 8
    assert key_line(text, ("scope", "odd key", "y", "z")) == 11
    assert key_line(text, ("scope", "more", "k")) == 13
    assert key_line(text, ("scope", "absent")) == 7
    assert key_line(text, ("absent",)) is None


def test_the_published_schema_is_current() -> None:
    message = "run `python -m germinal.project.file.schema`"
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), message


def test_every_key_of_the_schema_is_described() -> None:
    def undescribed(model: type, path: str = "") -> list[str]:
        return [f"{path}{name}" for name, field in model.model_fields.items() if not field.description]

    from germinal.project.file import config

    models = [value for value in vars(config).values() if isinstance(value, type) and issubclass(value, config._Table)]
    assert [name for model in models for name in undescribed(model, f"{model.__name__}.")] == []


def test_lora_settings_are_those_of_training() -> None:
    from germinal.layers.lora_config import LoRAConfig
    from germinal.training.config import TrainingConfig

    settings = LoRASettings()
    lora, training = settings.lora_config(), settings.training_config(seed=3, save_every=7)
    assert lora == LoRAConfig()
    assert training == dataclasses.replace(TrainingConfig(), seed=3, save_every=7)


def test_options_do_not_grow_unnoticed() -> None:
    def count(model: type) -> int:
        from germinal.project.file.reader import _field_model

        total = 0
        for name in model.model_fields:
            below = _field_model(model, name)
            total += count(below) if below else 1
        return total

    assert count(ProjectConfig) <= 57, "a new key must earn its place: raise this number on purpose"
