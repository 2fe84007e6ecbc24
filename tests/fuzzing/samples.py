"""Files of every kind that germinal reads, and what a user does with each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import germinal
from fuzzing.made_models import (
    make_adapter,
    make_bare_files,
    make_bert,
    make_gguf,
    make_llama,
    make_other_adapters,
    make_quantised,
    make_sentencepiece_bpe,
    make_t5,
    make_vectors,
)
from fuzzing.made_work import (
    RECIPE,
    make_model_predictors,
    make_predictor,
    make_project,
    make_tables,
    make_training_run,
    training_parts,
)
from germinal.data.readers import read_table
from germinal.predictors.loading import load_predictor
from germinal.project.board.report import collect, write_report
from germinal.training.run_folder import RunFolder

CHAT = [{"role": "user", "content": "a warm film"}]
TEXTS = ["a warm, funny film", "日本"]


@dataclass(frozen=True)
class Sample:
    """A folder with files of one kind.

    Attributes:
        name: Of the folder.
        make: Writes its files.
        use: What a user does with the folder.
        damaged: Which of its files are damaged; all if it is empty.
        weight: How often it is drawn.
    """

    name: str
    make: Callable[[Path], None]
    use: Callable[[Path], None]
    damaged: tuple[str, ...] = ()
    weight: float = 1.0


def write_all(folder: Path) -> None:
    """Write the samples into a folder, which the first of several processes does for all."""
    for sample in SAMPLES:
        (folder / sample.name).mkdir(parents=True)
        sample.make(folder / sample.name)


def write_text(path: Path, adapter: Path | None = None) -> None:
    lm = germinal.load(path, adapter=adapter)
    lm.generate("a warm film", max_new_tokens=2)
    lm.score("a warm", [" film"])
    lm.tokenizer.decode(lm.tokenizer.encode(TEXTS[1]))
    if lm.tokenizer.chat_template is not None:
        lm.generate(CHAT, max_new_tokens=2)


def use_gguf(folder: Path) -> None:
    write_text(folder / "model.gguf")


def use_adapter(folder: Path) -> None:
    write_text(folder / "base", folder / "adapter")


def use_other_adapters(folder: Path) -> None:
    for name in ("dora", "saved", "prompt"):
        write_text(folder / "base", folder / name)


def resume(folder: Path) -> None:
    parameters, optimizer = training_parts()
    run = RunFolder(folder, RECIPE)
    state = run.restore(parameters, optimizer)
    parameters["weight"].sum().backward()
    optimizer.step()
    run.save(replace(state, step=state.step + 1), parameters, optimizer)
    run.load_best(state, parameters)
    run.history()


def read_tables(folder: Path) -> None:
    for name in ("rows.csv", "rows.jsonl", "rows.parquet"):
        read_table(folder / name)


def classify(folder: Path) -> None:
    germinal.load(folder).classify(TEXTS)


def encode(folder: Path) -> None:
    germinal.load(folder).encode(TEXTS)


def predict(folder: Path) -> None:
    load_predictor(folder / "predictor").predict(TEXTS)


def predict_with_models(folder: Path) -> None:
    for name in ("writer", "classifier"):
        predict(folder / name)


def look_at_project(folder: Path) -> None:
    project = germinal.Project(folder)
    project.leaderboard()
    collect(project.ledger)
    project.winner().predict(TEXTS)
    project.plan()


def write_page(folder: Path) -> None:
    write_report(germinal.Project(folder).ledger, folder / "report.html")


SAMPLES = (
    Sample("llama", make_llama, write_text),
    Sample("bert", make_bert, classify),
    Sample("t5", make_t5, write_text),
    Sample("vectors", make_vectors, encode),
    Sample("gguf", make_gguf, use_gguf),
    Sample("quantised", make_quantised, use_gguf),
    Sample("adapter", make_adapter, use_adapter, ("adapter/",)),
    Sample("other-adapters", make_other_adapters, use_other_adapters, ("dora/", "saved/", "prompt/")),
    Sample("training-run", make_training_run, resume),
    Sample("model-predictors", make_model_predictors, predict_with_models),
    Sample("tables", make_tables, read_tables),
    Sample("bare-files", make_bare_files, write_text),
    Sample("sentencepiece-bpe", make_sentencepiece_bpe, write_text),
    Sample("predictor", make_predictor, predict, ("predictor/",)),
    Sample("project", make_project, look_at_project, weight=0.4),
    Sample("page", make_project, write_page, (".germinal/ledger",), weight=0.05),
)
