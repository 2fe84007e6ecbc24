"""Hugging Face folders: read as transformers does, written so that transformers reads them, refused when wrong."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from germinal import storage
from germinal.checkpoints.cards import ModelCard, read_licence
from germinal.checkpoints.checkpoint import Checkpoint
from germinal.checkpoints.formats import read
from germinal.checkpoints.hf_folder import write_folder
from germinal.errors import (
    CheckpointError,
    GerminalError,
    ModelNotFoundError,
    StorageError,
    UnsafeFileError,
    UnsupportedError,
    VocabularyMismatchError,
)
from germinal.models.transformer import Transformer

TEXT = "Classify this review: A film that is warm, funny and true.\nSentiment:"


@pytest.fixture
def folder(llama_folder: Path, tmp_path: Path) -> Path:
    """A folder to be spoilt."""
    shutil.copytree(llama_folder, tmp_path / "model")
    return tmp_path / "model"


def network_of(checkpoint: Checkpoint) -> Transformer:
    network = Transformer(checkpoint.config, device="meta")
    network.load_state_dict(checkpoint.state_dict, assign=True)
    return network


def logits_of(checkpoint: Checkpoint) -> torch.Tensor:
    network = network_of(checkpoint)
    with torch.no_grad():
        return network.logits(network(torch.tensor([checkpoint.tokenizer.encode(TEXT)])))


def peers_logits(folder: Path) -> torch.Tensor:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        return model(tokenizer(TEXT, return_tensors="pt").input_ids).logits  # type: ignore[no-any-return]


def test_logits_are_transformers(llama_folder: Path) -> None:
    torch.testing.assert_close(logits_of(read(llama_folder)), peers_logits(llama_folder), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "shape", [{}, {"tie_word_embeddings": True}, {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu"}]
)
def test_what_we_write_is_what_transformers_reads(
    make_llama_folder: Callable[..., Path], tmp_path: Path, shape: dict[str, Any]
) -> None:
    source = make_llama_folder(**shape)
    write_folder(tmp_path / "out", read(source), max_shard_bytes=60_000)
    assert len(list((tmp_path / "out").glob("model-*-of-*.safetensors"))) > 2
    torch.testing.assert_close(peers_logits(tmp_path / "out"), peers_logits(source), atol=0, rtol=0)
    from transformers import AutoTokenizer, GenerationConfig

    theirs, ours = (AutoTokenizer.from_pretrained(path) for path in (source, tmp_path / "out"))
    assert ours(TEXT).input_ids == theirs(TEXT).input_ids
    assert ours.chat_template == theirs.chat_template
    assert GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id == 2
    again = read(tmp_path / "out")
    assert all(torch.equal(tensor, again.state_dict[name]) for name, tensor in read(source).state_dict.items())


def test_bfloat16_is_kept_unless_told_otherwise(llama_folder: Path, tmp_path: Path) -> None:
    full = read(llama_folder)
    halved = read(llama_folder, torch.bfloat16)
    assert all(torch.equal(tensor, full.state_dict[name].bfloat16()) for name, tensor in halved.state_dict.items())
    write_folder(tmp_path / "half", replace(full, state_dict=halved.state_dict))
    assert json.loads((tmp_path / "half" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    kept = read(tmp_path / "half")
    assert kept.card.stored_precision == "bfloat16"
    assert kept.state_dict["embed_tokens.weight"].dtype == torch.bfloat16
    widened = read(tmp_path / "half", torch.float32).state_dict
    assert all(torch.equal(widened[name], tensor.float()) for name, tensor in halved.state_dict.items())


def test_weights_are_mapped_and_not_copied(make_llama_folder: Callable[..., Path]) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's /proc")
    folder = make_llama_folder(hidden_size=768, intermediate_size=3072, num_hidden_layers=4)
    size = (folder / "model.safetensors").stat().st_size
    script = f"""
from pathlib import Path
from germinal.checkpoints.formats import read

def resident(kind):
    line = next(row for row in open("/proc/self/status") if row.startswith(kind))
    return int(line.split()[1]) * 1024

read(Path({str(folder)!r}))  # imports, once
before = resident("RssAnon"), resident("RssFile")
checkpoint = read(Path({str(folder)!r}))
sums = [float(tensor.sum()) for tensor in checkpoint.state_dict.values()]
print(resident("RssAnon") - before[0], resident("RssFile") - before[1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    anonymous, mapped = map(int, done.stdout.split())
    assert size > 100_000_000
    assert anonymous < size // 10
    assert mapped > size * 9 // 10


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda f: (f / "config.json").unlink(), CheckpointError, r"no config\.json"),
        (lambda f: (f / "config.json").write_text("{"), CheckpointError, "not valid JSON"),
        (lambda f: (f / "config.json").write_text("[]"), CheckpointError, "JSON object"),
        (lambda f: edit_json(f / "config.json", model_type="lama"), UnsupportedError, "Did you mean 'llama'"),
        (lambda f: edit_json(f / "config.json", hidden_size="wide"), CheckpointError, "wrong type|positive whole"),
        (lambda f: edit_json(f / "config.json", hidden_size=None), CheckpointError, "hidden_size"),
        (
            lambda f: edit_json(f / "config.json", quantization_config={"quant_method": "gptq"}),
            UnsupportedError,
            "gptq",
        ),
        (lambda f: edit_json(f / "config.json", hidden_act="silo"), UnsupportedError, "Did you mean 'silu'"),
        (lambda f: edit_json(f / "config.json", num_hidden_layers=4), CheckpointError, r"missing: model\.layers\.3"),
        (lambda f: edit_json(f / "config.json", num_hidden_layers=2), CheckpointError, r"not part of the model: model"),
        (lambda f: edit_json(f / "config.json", intermediate_size=81), CheckpointError, r"\[80, 48\] where \[81, 48\]"),
        (lambda f: (f / "model.safetensors").unlink(), CheckpointError, "has no weights"),
        (lambda f: cut(f / "model.safetensors", 4), CheckpointError, r"model\.safetensors: is truncated"),
        (lambda f: cut(f / "model.safetensors", 400), CheckpointError, r"model\.safetensors: is truncated"),
        (lambda f: cut(f / "model.safetensors", 40_000), CheckpointError, r"model\.safetensors: is truncated"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64), CheckpointError, "malformed"),
        (lambda f: (f / "tokenizer.json").write_text("{"), CheckpointError, r"tokenizer\.json"),
        (lambda f: (f / "generation_config.json").write_text("3"), CheckpointError, "JSON object"),
    ],
)
def test_a_spoilt_folder_is_named_with_what_is_wrong(
    folder: Path, spoil: Callable[[Path], None], error: type[GerminalError], message: str
) -> None:
    spoil(folder)
    with pytest.raises(error, match=message) as caught:
        read(folder)
    assert str(folder) in str(caught.value)


def test_a_foreign_tokenizer_is_refused_by_both_names(folder: Path) -> None:
    edit_json(folder / "config.json", vocab_size=200)

    def shrink(tensors: dict[str, torch.Tensor]) -> None:
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensors[name] = tensors[name][:200].clone()

    edit_weights(folder, shrink)
    with pytest.raises(VocabularyMismatchError, match=r"tokenizer 'model' has 4\d\d tokens and model 'model' has 200"):
        read(folder)


def test_a_tied_head_may_be_stored_again_but_only_as_the_embedding(make_llama_folder: Callable[..., Path]) -> None:
    folder = make_llama_folder(tie_word_embeddings=True)
    edit_weights(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    assert "lm_head.weight" not in read(folder).state_dict
    edit_weights(folder, lambda t: t["lm_head.weight"].add_(1))
    with pytest.raises(
        CheckpointError, match=r"'model.embed_tokens.weight' and 'lm_head.weight' are one .*tie_word_embed"
    ):
        read(folder)


def shard(folder: Path, count: int = 3) -> dict[str, str]:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    weight_map = {name: f"model-{place % count + 1:05d}-of-{count:05d}.safetensors" for place, name in enumerate(names)}
    for file in set(weight_map.values()):
        save_file({name: tensors[name] for name in names if weight_map[name] == file}, folder / file)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return weight_map


def test_shards_read_as_one_file_does(folder: Path, llama_folder: Path) -> None:
    shard(folder)
    ours, expected = read(folder).state_dict, read(llama_folder).state_dict
    assert all(torch.equal(ours[name], tensor) for name, tensor in expected.items())


def test_shards_that_are_missing_or_leave_the_folder(folder: Path) -> None:
    weight_map = shard(folder)
    index = folder / "model.safetensors.index.json"
    for outside in ("../model-00001-of-00003.safetensors", "/etc/passwd", "a/../../x.safetensors", "..\\x.safetensors"):
        index.write_text(json.dumps({"weight_map": {**weight_map, "model.norm.weight": outside}}))
        with pytest.raises(UnsafeFileError, match="leaves its folder"):
            read(folder)
    index.write_text("{}")
    with pytest.raises(CheckpointError, match="weight_map"):
        read(folder)
    index.write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"shard 'model-00002-of-00003\.safetensors' is missing"):
        read(folder)


def test_of_two_sources_of_the_weights_the_one_is_read_that_transformers_reads(folder: Path) -> None:
    whole = load_file(folder / "model.safetensors")
    others = {name: tensor * 1.5 for name, tensor in whole.items()}
    torch.save(others, folder / "pytorch_model.bin")
    torch.testing.assert_close(logits_of(read(folder)), peers_logits(folder), atol=1e-4, rtol=1e-4)
    save_file(others, folder / "model.safetensors", metadata={"format": "pt"})
    shard(folder)  # an older version in shards, then the new one in one file
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    torch.testing.assert_close(logits_of(read(folder)), peers_logits(folder), atol=1e-4, rtol=1e-4)
    save_file(others, folder / "theirs.safetensors", metadata={"format": "pt"})
    edit_json(folder / "config.json", transformers_weights="theirs.safetensors")
    torch.testing.assert_close(logits_of(read(folder)), peers_logits(folder), atol=1e-4, rtol=1e-4)
    edit_json(folder / "config.json", transformers_weights="../theirs.safetensors")
    with pytest.raises(UnsafeFileError, match="leaves its folder"):
        read(folder)


def test_a_tensor_in_two_shards_is_told_with_both(folder: Path) -> None:
    weight_map = shard(folder)
    first, second = sorted(set(weight_map.values()))[:2]
    name, tensor = next(iter(load_file(folder / first).items()))
    save_file({**load_file(folder / second), name: tensor}, folder / second)
    with pytest.raises(CheckpointError, match=rf"{second}: tensor '{name}' is in the shard {first} too"):
        read(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"])
def test_a_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / name)
    with pytest.raises(CheckpointError, match="not a regular file"):
        read(folder)


def as_pickle(folder: Path, state: Any, **options: Any) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin", **options)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_pickled_tensors_are_read_without_running_anything(folder: Path, llama_folder: Path, zipped: bool) -> None:
    as_pickle(folder, load_file(folder / "model.safetensors"), _use_new_zipfile_serialization=zipped)
    ours, expected = read(folder).state_dict, read(llama_folder).state_dict
    assert all(torch.equal(ours[name], tensor) for name, tensor in expected.items())


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("plain", [True, False], ids=["plain pickle", "torch.save"])
def test_a_pickle_that_runs_code_is_refused_unread(folder: Path, tmp_path: Path, plain: bool) -> None:
    state = {"model.norm.weight": Bomb(tmp_path / "exploded")}
    as_pickle(folder, state)
    if plain:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(state))
    with pytest.raises(UnsafeFileError, match="could run code"):
        read(folder)
    assert not (tmp_path / "exploded").exists()


def test_a_pickle_that_is_cut_or_holds_other_things(folder: Path) -> None:
    as_pickle(folder, [1, 2])
    with pytest.raises(UnsupportedError, match="not a mapping"):
        read(folder)
    cut(folder / "pytorch_model.bin", 300)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: is truncated"):
        read(folder)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("model.pt", UnsafeFileError),
        ("model.pkl", UnsafeFileError),
        ("model.safetensors", CheckpointError),
        ("model.onnx", UnsupportedError),
    ],
)
def test_lone_files_are_refused_with_a_hint(tmp_path: Path, name: str, error: type[GerminalError]) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(error, match=r"folder") as caught:
        read(tmp_path / name)
    assert name in str(caught.value)
    with pytest.raises(ModelNotFoundError):
        read(tmp_path / "absent")


def test_the_card_names_licence_source_and_stored_precision(llama_folder: Path, tmp_path: Path) -> None:
    card = ModelCard(name="tiny", licence="mit", source="tiny.gguf", stored_precision="Q4_1", base_model="org/base")
    write_folder(tmp_path / "out", replace(read(llama_folder), card=card))
    text = (tmp_path / "out" / "README.md").read_text()
    for part in ("license: mit", "base_model: org/base", "# tiny", "`tiny.gguf`", "Q4_1", "float32"):
        assert part in text
    assert read_licence(tmp_path / "out") == "mit"
    assert read(tmp_path / "out").card.licence == "mit"
    assert (tmp_path / "out" / "model.safetensors").stat().st_mode & 0o044


def test_a_failed_write_leaves_what_was_there(llama_folder: Path, tmp_path: Path) -> None:
    """The system refuses to write past a size, as a full disk does, first in the weights and then in the tokenizer."""
    resource = pytest.importorskip("resource")
    checkpoint = read(llama_folder)
    write_folder(tmp_path / "out", checkpoint)
    before = storage.folder_digest(tmp_path / "out")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for size in (100_000, 2_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
            with pytest.raises(StorageError, match="cannot be written"):
                write_folder(tmp_path / "out", checkpoint, max_shard_bytes=1 if size < 10_000 else 10**9)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert storage.folder_digest(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_may_be_written_over_the_one_it_was_read_from(folder: Path, llama_folder: Path) -> None:
    checkpoint = read(folder)
    write_folder(folder, checkpoint)
    assert torch.equal(logits_of(checkpoint), logits_of(read(folder)))
