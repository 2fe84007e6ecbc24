"""Models off the hub, by the real huggingface_hub against a server of our own; each fetch in a process of its own,
because the library reads its environment once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import COMMIT, Hub, serve
from safetensors.torch import load_file

from germinal.checkpoints.formats import read

SCRIPT = """
import json, sys
from germinal.checkpoints import sources
from germinal.errors import GerminalError
reports = []
try:
    path = str(sources.fetch(sys.argv[1], reporter=reports.append))
    total = reports[-1].total if reports else 0
    print(json.dumps({"path": path, "done": [report.done for report in reports], "total": total}))
except GerminalError as error:
    print(json.dumps({"error": type(error).__name__, "text": str(error)}))
"""


@dataclass
class Setting:
    """A hub with one repository, and a cache of our own."""

    hub: Hub
    cache: Path

    def fetch(self, ref: str, **environment: str) -> dict[str, Any]:
        variables = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("HF_", "GERMINAL_"))},
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.cache / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "GERMINAL_CACHE": str(self.cache),
            **environment,
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, ref], env=variables, capture_output=True, text=True, timeout=120
        )
        assert done.stdout, done.stderr
        assert "%|" not in done.stderr  # no progress bar but ours
        return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


@pytest.fixture
def setting(llama_folder: Path, tmp_path: Path) -> Iterator[Setting]:
    repository = tmp_path / "repository"
    shutil.copytree(llama_folder, repository)
    (repository / "README.md").write_text("---\nlicense: mit\n---\n")
    (repository / "pytorch_model.bin").write_bytes(b"never fetched beside safetensors")
    (repository / "original").mkdir()
    (repository / "original" / "model.safetensors").write_bytes(b"another layout")
    with serve(Hub({"org/tiny": repository})) as hub:
        yield Setting(hub, tmp_path / "cache")


def test_a_model_is_fetched_whole_and_once(setting: Setting, llama_folder: Path) -> None:
    first = setting.fetch("org/tiny")
    folder = Path(first["path"])
    assert setting.cache in folder.parents
    assert "pytorch_model.bin" not in setting.hub.downloads()
    assert not (folder / "original").exists()
    assert first["done"][-1] == first["total"] == sum(file.stat().st_size for file in folder.iterdir())
    assert first["done"] == sorted(first["done"])
    checkpoint, expected = read(folder), read(llama_folder)
    assert all(torch.equal(checkpoint.state_dict[name], tensor) for name, tensor in expected.state_dict.items())
    assert (checkpoint.card.name, checkpoint.card.source, checkpoint.card.licence) == ("org/tiny", "hf:org/tiny", "mit")
    before = len(setting.hub.downloads())
    assert setting.fetch("hf:org/tiny@main")["path"] == first["path"]
    assert len(setting.hub.downloads()) == before


def test_offline_takes_what_is_complete_and_nothing_else(setting: Setting) -> None:
    missing = setting.fetch("org/tiny", GERMINAL_OFFLINE="1")
    assert missing["error"] == "ModelNotFoundError"
    assert "not complete in the cache" in missing["text"]
    assert not setting.hub.requests
    path = setting.fetch("org/tiny")["path"]
    asked = len(setting.hub.requests)
    assert setting.fetch("org/tiny", HF_HUB_OFFLINE="1")["path"] == path
    assert len(setting.hub.requests) == asked


def test_a_commit_needs_no_second_look_at_the_hub(setting: Setting) -> None:
    path = setting.fetch(f"org/tiny@{COMMIT}")["path"]
    asked = len(setting.hub.requests)
    assert setting.fetch(f"org/tiny@{COMMIT}")["path"] == path
    assert len(setting.hub.requests) == asked


def test_an_interrupted_fetch_goes_on_and_is_not_taken_for_whole(setting: Setting, llama_folder: Path) -> None:
    size = (llama_folder / "model.safetensors").stat().st_size
    setting.hub.cut["model.safetensors"] = size // 2
    setting.fetch("org/tiny")  # the library may mend it by itself
    whole = setting.fetch("org/tiny")
    assert load_file(Path(whole["path"]) / "model.safetensors").keys()


def test_a_file_that_is_not_what_the_hub_says_is_deleted(setting: Setting) -> None:
    setting.hub.wrong_hashes.add("model.safetensors")
    refused = setting.fetch("org/tiny")
    assert refused["error"] == "HashMismatchError"
    assert not list(setting.cache.rglob("model.safetensors"))
    assert setting.fetch("org/tiny", GERMINAL_OFFLINE="1")["error"] == "ModelNotFoundError"
    setting.hub.wrong_hashes.clear()
    assert read(Path(setting.fetch("org/tiny")["path"])).config.num_layers == 3


def test_one_file_of_a_repository(setting: Setting) -> None:
    repository = setting.hub.repositories["org/tiny"]
    (repository / "tiny.gguf").write_bytes(b"GGUF")
    path = Path(setting.fetch("hf:org/tiny:tiny.gguf")["path"])
    assert path.read_bytes() == b"GGUF"
    assert setting.hub.downloads() == ["tiny.gguf"]
    for file in ("model.safetensors", "pytorch_model.bin"):
        (repository / file).unlink()
    hint = setting.fetch("org/tiny")
    assert hint["error"] == "ModelNotFoundError"
    assert "hf:org/tiny:tiny.gguf" in hint["text"]


def test_what_the_hub_refuses_is_said(setting: Setting) -> None:
    setting.hub.gated.add("org/gated")
    for ref, part in (
        ("org/absent", "neither a local folder nor a model on the hub"),
        ("org/tiny@v9", "no revision 'v9'"),
        ("org/gated", "accepted its licence"),
        ("org/tiny:absent.gguf", "no file 'absent.gguf'"),
    ):
        answer = setting.fetch(ref)
        assert answer["error"] == "ModelNotFoundError"
        assert part in answer["text"]


def test_a_hub_that_cannot_be_reached(setting: Setting) -> None:
    path = setting.fetch("org/tiny")["path"]
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    assert setting.fetch("org/tiny", **nowhere)["path"] == path
    answer = setting.fetch("org/other", **nowhere)
    assert answer["error"] == "ModelNotFoundError"
    assert "did not answer" in answer["text"]
