"""Bad input, each with its own clear error and exit code, nothing half-written, and never a traceback."""

from __future__ import annotations

import errno
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

Germinal = Callable[..., Any]

SMALL = ("--set", "select.models=[]")


def refused(done: Any, code: int, *said: str) -> None:
    """The command ended with this code and these words, printed nothing on standard output, and shows no traceback."""
    assert done.code == code, done.err
    for words in said:
        assert words in done.err
    assert "\nerror: " in f"\n{done.err}"
    assert "Traceback" not in done.err
    assert done.out == ""


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


# The project file


@pytest.mark.parametrize("command", ["plan", "run", "leaderboard", "report"])
def test_no_project(germinal: Germinal, tmp_path: Path, command: str) -> None:
    refused(germinal(command, tmp_path), 3, "germinal.toml", "germinal init")
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_does_not_exist(germinal: Germinal, project: Path) -> None:
    edit(project / "germinal.toml", "metrics =", "metrix =")
    refused(germinal("run", project), 3, "germinal.toml:8", "metrix", "Did you mean 'metrics'?")
    assert not (project / ".germinal").exists()


def test_a_metric_that_does_not_exist(germinal: Germinal, project: Path) -> None:
    edit(project / "germinal.toml", '"f1_macro"', '"f1_makro"')
    refused(germinal("plan", project), 3, "f1_makro", "f1_macro")


def test_an_override_that_does_not_exist(germinal: Germinal, project: Path) -> None:
    refused(germinal("run", project, "--set", "select.model=[]"), 3, "--set", "Did you mean 'models'?")


# Data


def test_no_data_file(germinal: Germinal, project: Path) -> None:
    (project / "reviews.csv").rename(project / "review.csv")
    refused(germinal("run", project, *SMALL), 4, "reviews.csv", "Did you mean 'review.csv'?")


def test_empty_data(germinal: Germinal, project: Path) -> None:
    (project / "reviews.csv").write_text("text,label\n", encoding="utf-8")
    refused(germinal("run", project, *SMALL), 4, "no rows")


def test_duplicated_data(germinal: Germinal, project: Path) -> None:
    data = project / "reviews.csv"
    data.write_text(data.read_text(encoding="utf-8") + "A warm film 0,pos\n", encoding="utf-8")
    refused(germinal("run", project, *SMALL), 4, "reviews.csv:62")


def test_a_label_that_training_does_not_have(germinal: Germinal, project: Path) -> None:
    data = project / "reviews.csv"
    lines = data.read_text(encoding="utf-8").splitlines()
    for number in range(1, len(lines)):
        # Whichever row it is, once it is held out its label is nowhere in the training split.
        changed = [*lines[:number], lines[number].rpartition(",")[0] + ",odd", *lines[number + 1 :]]
        data.write_text("\n".join(changed) + "\n", encoding="utf-8")
        done = germinal("run", project, *SMALL, "--no-report")
        if done.code:
            refused(done, 4, "odd", "train")
            return
    pytest.fail("no row of dev or test was found")


# Models


def test_no_such_model(germinal: Germinal) -> None:
    refused(germinal("generate", "smollm2-135m-instrukt", "A film"), 5, "Did you mean 'smollm2-135m-instruct'?")
    refused(germinal("generate", "./nowhere", "A film"), 5, "nowhere")


@pytest.fixture
def copied(llama_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(llama_folder, folder)
    return folder


def test_truncated_weights(germinal: Germinal, copied: Path) -> None:
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    refused(germinal("convert", copied, "-o", copied.parent / "out"), 6, "model.safetensors")
    assert not (copied.parent / "out").exists()


def test_a_truncated_gguf(germinal: Germinal, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF\x03\x00\x00\x00\x01")
    refused(germinal("generate", file, "A film"), 6, "model.gguf")


def test_a_pickle(germinal: Germinal, copied: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (copied / "exploded",))

    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    refused(germinal("generate", copied, "A film"), 8, "pytorch_model.bin")
    assert not (copied / "exploded").exists()


def test_another_models_tokenizer(germinal: Germinal, copied: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(copied / "tokenizer.json"))
    tokenizer.add_tokens([f"word{number}" for number in range(100)])
    tokenizer.save(str(copied / "tokenizer.json"))
    refused(germinal("generate", copied, "A film"), 10)


def test_a_template_that_tries_to_reach_out(germinal: Germinal, copied: Path) -> None:
    (copied / "chat_template.jinja").write_text("{{ messages.__class__.__mro__ }}", encoding="utf-8")
    refused(germinal("generate", copied, "A film", "--chat"), 9, "sandbox")


def test_a_model_without_a_template_has_no_chat(germinal: Germinal, copied: Path) -> None:
    (copied / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((copied / "tokenizer_config.json").read_text(encoding="utf-8"))
    config.pop("chat_template", None)
    (copied / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    refused(germinal("generate", copied, "A film", "--chat"), 9, "no chat template")
    refused(germinal("serve", copied, "--port", 0), 9, "no chat template")


# The disk, other processes, the network


def test_a_full_disk(germinal: Germinal, llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    refused(germinal("convert", llama_folder, "-o", tmp_path / "out"), 14, "the disk is full")
    assert list(tmp_path.iterdir()) == []


def test_two_runs_at_once(germinal: Germinal, project: Path) -> None:
    (project / ".germinal").mkdir()
    with FileLock(project / ".germinal" / "lock"):
        refused(germinal("run", project, *SMALL), 15, "another process")
    assert germinal("run", project, *SMALL, "--no-report").code == 0


def test_nothing_was_run_yet(germinal: Germinal, project: Path) -> None:
    for command in (("leaderboard", project), ("report", project), ("compare", "a", "b", "-p", project)):
        refused(germinal(*command), 16, "germinal run")
    assert not (project / "report.html").exists()


def test_a_trial_that_does_not_exist(germinal: Germinal, project: Path) -> None:
    refused(germinal("why", "tfid", "-p", project), 16, "Did you mean 'tfidf'?")


def test_an_address_in_use(germinal: Germinal, llama_folder: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused(germinal("serve", llama_folder, "--port", taken.getsockname()[1]), 18, "Address already in use")


# The program itself


def run_program(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "germinal", *arguments]
    return subprocess.run(command, text=True, capture_output=True, timeout=120, check=False, **options)


def test_the_program_exits_with_the_code_of_the_error() -> None:
    done = run_program("generate", "nosuchmodel", "A film")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("error: no model is known as 'nosuchmodel'.\n")


def test_wrong_usage_exits_with_2() -> None:
    done = run_program("lederboard")
    assert done.returncode == 2
    assert "Did you mean 'leaderboard'?" in done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m germinal models --json | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], text=True, capture_output=True, timeout=120, check=False
    )
    assert done.stdout == "["
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
