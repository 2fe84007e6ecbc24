"""What germinal itself leaves in folders, and the data that it starts from."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from pathlib import Path

import pyarrow
import torch
from pyarrow import parquet

import germinal
from fuzzing.made_models import make_bert, make_llama
from germinal.predictors.answers import Labels
from germinal.predictors.classifier_predictor import ClassifierPredictor
from germinal.predictors.language_model_predictor import LanguageModelPredictor
from germinal.text.prompt import Example, Prompt
from germinal.training.run_folder import Record, RunFolder, State

RECIPE = {"seed": 0}
TOML = """\
seed = 0

[scope]
use_case = "Say whether a film review is positive or negative"
data = "reviews.csv"
input = "text"
target = "label"
labels = { pos = "Positive", neg = "Negative" }
split = { dev = 12, test = 8 }
metrics = ["accuracy", "f1_macro"]
success = { accuracy = 0.5 }

[select]
baselines = ["majority", "tfidf"]
"""


def make_training_run(folder: Path) -> None:
    """Of one matrix, stopped after its second update."""
    parameters, optimizer = training_parts()
    run, state = RunFolder(folder, RECIPE), State()
    run.restore(parameters, optimizer)
    for step in (1, 2):
        parameters["weight"].sum().backward()
        optimizer.step()
        record = Record(step, 0, 1.0, 0.1, 1.0, 4, 0.0, validation_loss=float(step))
        state = state.after(record, 0.0)
        run.append(record)
        run.save(state, parameters, optimizer)


def training_parts() -> tuple[dict[str, torch.nn.Parameter], torch.optim.Optimizer]:
    parameters = {"weight": torch.nn.Parameter(torch.ones(3, 2)), "bias": torch.nn.Parameter(torch.zeros(2))}
    return parameters, torch.optim.AdamW(parameters.values())


def make_model_predictors(folder: Path) -> None:
    """One that writes its answers, with worked examples, and one that classifies, each with its model."""
    make_llama(folder / "llama")
    (folder / "bert").mkdir()
    make_bert(folder / "bert")
    lm, labels = germinal.load(folder / "llama", precision="float32"), Labels({"pos": "good", "neg": "bad"})
    examples = [Example("warm", "good"), Example("dull", "bad")]
    writer = LanguageModelPredictor(lm, Prompt(), labels, "likelihood", examples=examples)
    writer.save(folder / "writer" / "predictor", with_weights=True)
    ClassifierPredictor(germinal.load(folder / "bert")).save(folder / "classifier" / "predictor")
    shutil.rmtree(folder / "llama")
    shutil.rmtree(folder / "bert")


def make_predictor(folder: Path) -> None:
    """A project that was run, and what its winner saves."""
    make_project(folder)
    germinal.Project(folder).predictor("tfidf").save(folder / "predictor")


def make_project(folder: Path) -> None:
    """A project of baselines, after its run."""
    good, bad = ["warm", "funny", "true", "fine"], ["dull", "cold", "weak", "poor"]
    with (folder / "reviews.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        for number in range(40):
            words, label = (good, "pos") if number % 2 else (bad, "neg")
            table.writerow([f"{words[number % 4]} {words[number // 4 % 4]} film number {number}", label])
    (folder / "germinal.toml").write_text(TOML)
    project = germinal.Project(folder)
    project.run()
    project.ledger.close()
    ledger = folder / ".germinal" / "ledger.sqlite"
    with sqlite3.connect(ledger) as database:
        database.execute("PRAGMA journal_mode = DELETE")  # one file, so that damage of it is what is read


def make_tables(folder: Path) -> None:
    """Each of the same rows."""
    rows = [
        {"text": f"a {word} film, \u65e5\u672c", "label": number % 2}
        for number, word in enumerate(["warm", "dull"] * 3)
    ]
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["text", "label"])
        table.writeheader()
        table.writerows(rows)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "rows.parquet")
