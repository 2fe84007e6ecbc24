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
import torch
import transformers
from filelock import FileLock
from safetensors.torch import load_file, save_file
from tiny_encoders import save_encoder
from tiny_models import small_tokenizer

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
    refused(germinal("generate", copied, "A film word7"), 10, "'word7'")
    assert germinal("generate", copied, "A film", "--max-new-tokens", 2).code == 0  # no token without a row is in it


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


# What a model's folder may say


def new_folder(path: Path) -> Path:
    path.mkdir()
    return path


def edit_json(file: Path, **values: Any) -> None:
    """Set keys of a JSON file; infinities and NaN are written as Python writes them."""
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def say(**values: Any) -> Callable[[Path], None]:
    """Damage: config.json says so."""
    return lambda folder: edit_json(folder / "config.json", **values)


def weigh(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Damage: the weights are changed so."""
    return lambda folder: edit_weights(folder, change)


def index(*ghosts: str, shard: str = "model-00001-of-00001.safetensors") -> Callable[[Path], None]:
    """Damage: an index of shards that names more tensors than there are, or a shard that is not there."""

    def write(folder: Path) -> None:
        weight_map = dict.fromkeys([*load_file(folder / "model.safetensors"), *ghosts], shard)
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return write


def no_map(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": []}')


def shrink_vocabulary(folder: Path) -> None:
    edit_json(folder / "config.json", vocab_size=200)
    names = ("model.embed_tokens.weight", "lm_head.weight")
    edit_weights(folder, lambda tensors: tensors.update({name: tensors[name][:200].clone() for name in names}))


NAN, INF = float("nan"), float("inf")
DAMAGES: dict[str, tuple[Callable[[Path], Any], int, tuple[str, ...]]] = {
    "unknown type": (say(model_type="xyzzy"), 13, ("'xyzzy'", "Known: bart, bert,", "t5")),
    "nearly known type": (say(model_type="lama"), 13, ("'lama'", "Did you mean 'llama'?")),
    "type is a number": (say(model_type=3), 6, ("has no 'model_type'",)),
    "nothing in config": (lambda folder: (folder / "config.json").write_text(""), 6, ("config.json", "not valid JSON")),
    "half a config": (lambda folder: (folder / "config.json").write_text('{"a": '), 6, ("not valid JSON",)),
    "empty object": (lambda folder: (folder / "config.json").write_text("{}"), 6, ("has no 'model_type'",)),
    "bytes": (lambda folder: (folder / "config.json").write_bytes(b"\xff\x00"), 6, ("config.json", "not UTF-8")),
    "another width": (
        say(intermediate_size=81),
        6,
        ("model.layers.0.mlp.down_proj.weight [48, 80] where [48, 81] is expected", "and 1 more"),
    ),
    "more layers": (say(num_hidden_layers=4), 6, ("missing: model.layers.3.input_layernorm.weight",)),
    "fewer layers": (say(num_hidden_layers=2), 6, ("not part of the model: model.layers.2.input_layernorm.weight",)),
    "endless layers": (say(num_hidden_layers=2_000_000_000), 6, ("config.num_layers: must be at most 10,000",)),
    "many layers": (say(num_hidden_layers=9_000), 6, ("9,000 layers", "30 tensors")),
    "more layers than can be counted": (say(num_hidden_layers=10**11), 6, ("'num_hidden_layers'", "at most")),
    "endless widths": (
        say(vocab_size=2**31 - 1, hidden_size=2**31 - 1),
        6,
        ("vocab_size of 2,147,483,647 is",),
    ),
    "a missing tensor": (weigh(lambda tensors: tensors.pop("model.norm.weight")), 6, ("missing: model.norm.weight",)),
    "an extra tensor": (
        weigh(lambda tensors: tensors.update({"model.extra": torch.ones(3)})),
        6,
        ("not part of the model: model.extra",),
    ),
    "whole numbers": (
        weigh(lambda tensors: tensors.update({"model.norm.weight": torch.ones(48, dtype=torch.int32)})),
        13,
        ("'model.norm.weight'", "int32"),
    ),
    "numbers that are none": (
        weigh(lambda tensors: tensors["model.norm.weight"].fill_(NAN)),
        6,
        ("logits are not finite",),
    ),
    "a tokenizer too large": (shrink_vocabulary, 10, ("400 tokens", "200", "no embedding for 200")),
    "a missing shard": (index(shard="model-00001-of-00002.safetensors"), 6, ("'model-00001-of-00002.safetensors'",)),
    "a lost tensor": (index("model.ghost"), 6, ("index.json", "no shard has: model.ghost")),
    "no map": (no_map, 6, ("no 'weight_map'",)),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), 6, ("has no weights",)),
    "empty weights": (lambda folder: (folder / "model.safetensors").write_bytes(b""), 6, ("truncated or malformed",)),
    "a broken tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{"), 6, ("tokenizer.json",)),
    "quantised by a word": (say(quantization_config="awq"), 13, ("quantised by 'awq'",)),
    "another class": (say(architectures=["LlamaForChairs"]), 13, ("LlamaForChairs",)),
    "classes no list": (say(architectures="LlamaForCausalLM"), 6, ("architectures",)),
    "scaling that is none": (
        say(rope_parameters=None, rope_scaling={"rope_type": "linear", "factor": NAN}),
        6,
        ("rope",),
    ),
    "a rule as a word": (say(tie_word_embeddings="no"), 6, ("'tie_word_embeddings'", "true or false")),
}
NUMBERS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "hidden_size": ("'hidden_size'", (NAN, INF, -1, 0, 1.5, "48", True, [])),
    "num_hidden_layers": ("'num_hidden_layers'", (NAN, -INF, -1, 0, 2.0, "3", True)),
    "vocab_size": ("'vocab_size'", (NAN, -400, 0, True)),
    "num_key_value_heads": ("'num_key_value_heads'", (NAN, -2, 0, True, "2")),
    "max_position_embeddings": ("'max_position_embeddings'", (NAN, INF, -1, 0)),
    "rms_norm_eps": ("'rms_norm_eps'", (NAN, INF, "1e-5", [], None)),
    "head_dim": ("'head_dim'", (NAN, -8, 0, 10**30)),
    "rope_parameters": ("'rope_theta'", tuple({"rope_theta": value} for value in (NAN, INF, "x"))),
    "rope_scaling": ("'factor'", tuple({"rope_type": "linear", "factor": value} for value in (NAN, "8", [8]))),
}
DAMAGES |= {
    f"{key} {value}": (say(**{key: value}), 6, (f"{ours} must be",))
    for key, (ours, values) in NUMBERS.items()
    for value in values
}
DAMAGES |= {
    "no width": (say(hidden_size=None), 6, ("'hidden_size' must be a positive whole number, not None",)),
    "an epsilon below nothing": (say(rms_norm_eps=-1e-5), 6, ("config.norm_eps: must be at least 0",)),
    "scaling by nothing": (say(rope_scaling={"rope_type": "linear"}), 6, ("rope_parameters: has no 'factor'",)),
    "an unknown scaling": (say(rope_scaling={"rope_type": "longrope"}), 13, ("'longrope'", "Known: default, linear,")),
    "a base of nothing": (say(rope_parameters={"rope_theta": 0}), 6, ("config.rope_theta: must be a positive number",)),
    "parameters as a list": (say(rope_parameters=[1]), 6, ("'rope_parameters' must be an object",)),
    "a kind of layer of its own": (say(rope_parameters={"full_attention": {}}), 13, ("'full_attention'",)),
    "heads that do not share": (say(num_key_value_heads=5), 6, ("5 key-value heads do not divide 6 query heads",)),
    "half of a pair": (say(head_dim=7), 6, ("must be even, not 7",)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder(germinal: Germinal, copied: Path, damage: str) -> None:
    spoil, code, said = DAMAGES[damage]
    spoil(copied)
    refused(germinal("generate", copied, "A film", "--quiet", "--max-new-tokens", 2), code, *said)


LONG = "A film that is warm, funny and true. Nobody should miss it."


@pytest.mark.parametrize("kind", ["GPT2LMHeadModel", "BartForConditionalGeneration"])
def test_more_tokens_than_learned_positions(germinal: Germinal, tmp_path: Path, kind: str) -> None:
    tokenizer = small_tokenizer()
    sizes: dict[str, Any] = {"n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 12}
    if kind.startswith("Bart"):
        sizes = {"d_model": 8, "max_position_embeddings": 12, "decoder_start_token_id": 2, "forced_eos_token_id": None}
        sizes |= {f"{stack}_{what}": 2 for stack in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    config_class = getattr(transformers, "GPT2Config" if kind.startswith("GPT2") else "BartConfig")
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    getattr(transformers, kind)(config_class(vocab_size=len(tokenizer), **ids, **sizes)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    refused(germinal("generate", tmp_path, LONG, "--quiet"), 11, "tokens", "12")
    refused(germinal("inspect", tmp_path, LONG, "-o", tmp_path / "look.html", "--quiet"), 11, "tokens", "12")
    assert not (tmp_path / "look.html").exists()
    assert germinal("generate", tmp_path, "A film", "--quiet", "--max-new-tokens", 2).code == 0
    if kind.startswith("Bart"):
        edit_json(tmp_path / "generation_config.json", decoder_start_token_id=9999)
        refused(germinal("generate", tmp_path, "A film", "--quiet"), 6, "decoder_start_token_id", "9999")
        return
    edit_json(tmp_path / "config.json", n_positions=20)
    refused(germinal("generate", tmp_path, "A film"), 6, "transformer.wpe.weight [12, 8] where [20, 8] is expected")


def test_the_wrong_head(germinal: Germinal, tmp_path: Path, copied: Path) -> None:
    masked = save_encoder(new_folder(tmp_path / "masked"), "BertForMaskedLM")
    refused(germinal("generate", masked, "A film"), 13, "masked-language-model head")
    refused(germinal("classify", copied, "A film"), 13, "language-model head", "sequence-classification")
    edit_json(masked / "config.json", architectures=["BertForSequenceClassification"])
    refused(germinal("classify", masked, "A film"), 6, "missing: ", "classifier.weight")
    classes = save_encoder(new_folder(tmp_path / "classes"), "BertForSequenceClassification", num_labels=3)
    edit_json(classes / "config.json", id2label={"0": "bad", "1": "good", "7": "odd"})
    refused(germinal("classify", classes, "A film"), 6, "id2label", "3 outputs")
    edit_json(classes / "config.json", id2label=["bad", "good", "odd"])
    refused(germinal("classify", classes, "A film"), 6, "id2label")


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
