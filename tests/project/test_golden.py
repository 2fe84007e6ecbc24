"""Golden outputs of every kind of step: when results change its version must too, or old results would be reused.

`python tests/project/test_golden.py --write` writes the file anew, for review.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_project import BAD, GOOD, HEAD_TOML, TEXT_TOML, TOML, news, review, write_rows

from germinal.ledger.records import StepRecord
from germinal.ledger.tables import CANDIDATE
from germinal.project import Project
from germinal.project.plan.resolver import Resolver
from germinal.project.plan.step_graph import StepGraph
from germinal.project.steps.fit import FitStep
from germinal.project.steps.measure import MeasureStep
from germinal.project.steps.predict_fitted import FittedPredictStep

GOLDEN = Path(__file__).with_name("golden.json")


def even_model(folder: Path) -> None:
    """Give a model weights by a formula, so that no random generator's version decides them."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = {}
    for number, (name, tensor) in enumerate(sorted(load_file(file).items())):
        if "norm" in name.lower():
            tensors[name] = torch.ones_like(tensor)
            continue
        steps = torch.arange(tensor.numel(), dtype=torch.float64).view(tensor.shape)
        tensors[name] = (0.15 * torch.sin(steps * 12.9898 + number)).to(tensor.dtype)
    save_file(tensors, file, metadata={"format": "pt"})


def save_even_encoder(folder: Path) -> None:
    """An encoder of even weights whose vocabulary is written by hand: one that is trained differs from time to time."""
    import transformers
    from tiny_encoders import SIZES

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, "film", *"0123456789"]
    vocabulary = [*words, *(f"##{digit}" for digit in range(10))]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    transformers.BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    config = transformers.BertConfig(vocab_size=len(vocabulary), pad_token_id=0, **SIZES)
    transformers.BertModel(config).save_pretrained(folder)
    even_model(folder)


def results_by_kind(folder: Path, model: Path) -> dict[str, dict[str, Any]]:
    """Version and result of one step of each kind, of labels, of texts, and of an encoder with a head."""
    for name, toml in (("labels", TOML), ("texts", TEXT_TOML), ("head", HEAD_TOML)):
        (folder / name).mkdir()
        (folder / name / "germinal.toml").write_text(toml.format(model=model), encoding="utf-8")
    for name in ("labels", "head"):
        write_rows(folder / name / "reviews.csv", [review(number) for number in range(90)])
    save_even_encoder(folder / "head" / "encoder")
    write_rows(folder / "texts" / "news.csv", [news(number) for number in range(60)], ("text", "summary"))
    of_head = results_of(Project(folder / "head"))
    of_texts = results_of(Project(folder / "texts"))
    return (
        {name: found for name, found in of_head.items() if name.startswith("TuneHead") or name.endswith(", head")}
        | results_of(Project(folder / "labels"))
        | {f"{name}, texts": found for name, found in of_texts.items()}
    )


def results_of(project: Project) -> dict[str, dict[str, Any]]:
    """By kind, from a run of the project; the numbers rounded to what machines agree on."""
    project.run()
    graph = StepGraph(project.config)
    resolver = Resolver(project.ledger, project.folder, project.artifacts)
    found: dict[str, dict[str, Any]] = {}
    for step in resolver.in_order([graph.choose]):
        resolved = resolver.look(step)
        assert resolved is not None
        assert resolved.record is not None
        name = " ".join([type(step).__name__, *_variant(step)])
        record = resolved.record
        folder_of_step = project.artifacts / record.artifact if record.artifact else None
        golden = {
            "version": step.version,
            "outputs": sorted(record.outputs),
            "files": sorted(file.name for file in folder_of_step.iterdir()) if folder_of_step else [],
            "result": _result(project, record),
        }
        found.setdefault(name, golden)
    return found


def _variant(step: Any) -> list[str]:
    """What tells steps of one kind apart in what they do."""
    if isinstance(step, MeasureStep):
        return [str(step.rule)]
    if isinstance(step, FitStep | FittedPredictStep):
        return [step.title if isinstance(step, FitStep) else step.fit.title]
    return []


def _result(project: Project, record: StepRecord) -> Any:
    ledger, values = project.ledger, record.values
    match record.kind:
        case "data" | "examples":
            return {"outputs": record.outputs, "values": values}
        case "model":
            return {"parameters": values["parameters"], "context_window": values["context_window"]}
        case "fit":
            return {"parameters": values["parameters"]}
        case "tune":
            return [[_rounded(step["loss"]), step["tokens"]] for step in values["history"][:5]]
        case "calibrate":
            return _rounded(values["priors"])
        case "predict":
            links = ledger.linked(record.key)[:4]
            keys = [key for link in links for key in (link.generation_key, link.score_key) if key]
            stored = ledger.predictions(keys)
            return [values["tokens"], [_rounded(stored[key].output) for key in keys]]
        case "measure":
            figures = ledger.measurements(record.key)[CANDIDATE]
            return {name: _rounded([item.value, item.low, item.high]) for name, item in figures.items()}
        case "choose":
            return {key: values[key] for key in ("metric", "best", "winner_replicate")}
    raise AssertionError(f"a golden output for {record.kind} is missing")


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 4)
        case dict():
            return {key: _rounded(item) for key, item in value.items() if key != "computed_tokens"}
        case list():
            return [_rounded(item) for item in value]
    return value


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, make_llama_folder: Any) -> dict[str, dict[str, Any]]:
    model = make_llama_folder(num_hidden_layers=2, max_position_embeddings=512)
    even_model(model)
    return results_by_kind(tmp_path_factory.mktemp("golden"), model)


KINDS = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}


def test_every_kind_of_step_has_a_golden_output(results: dict[str, dict[str, Any]]) -> None:
    assert set(results) == set(KINDS)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_results_change_only_with_the_version(results: dict[str, dict[str, Any]], kind: str) -> None:
    golden, now = KINDS[kind], json.loads(json.dumps(results[kind]))
    if golden["version"] != now["version"]:
        pytest.fail(f"{kind} has a new version: write its golden output anew (see the top of this file).")
    for part in ("outputs", "files"):
        assert golden[part] == now[part], f"what {kind} leaves changed: give it the next version number."
    assert _near(golden["result"], now["result"]), f"the results of {kind} changed: give it the next version number."


def _near(golden: Any, now: Any) -> bool:
    """Equal, floats as far as machines agree."""
    match golden:
        case float():
            return isinstance(now, int | float) and abs(golden - now) < 2e-3
        case dict():
            return (
                isinstance(now, dict) and golden.keys() == now.keys() and all(_near(golden[k], now[k]) for k in golden)
            )
        case list():
            return isinstance(now, list) and len(golden) == len(now) and all(map(_near, golden, now))
    return bool(golden == now)


if __name__ == "__main__" and "--write" in sys.argv:
    import tempfile

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tiny_models import random_llama, small_tokenizer  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "model"
        tokenizer = small_tokenizer()
        settings = {"num_hidden_layers": 2, "max_position_embeddings": 512, "pad_token_id": 0}
        random_llama(vocab_size=len(tokenizer), **settings).save_pretrained(model)
        tokenizer.save_pretrained(model)
        even_model(model)
        (Path(place) / "project").mkdir()
        text = json.dumps(results_by_kind(Path(place) / "project", model), indent=1, ensure_ascii=False)
        GOLDEN.write_text(text + "\n", encoding="utf-8")
