"""The command line as a user has it: what it prints, and the code it exits with."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from germinal.cli.main import main


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str


Germinal = Callable[..., Finished]

_STACK = {"layers": 2, "attention_heads": 4, "ffn_dim": 40}


@pytest.fixture
def germinal(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Germinal:
    """`germinal("predict", "new.csv")` runs a command in this process: torch is loaded once for all tests."""

    def run(*arguments: str | Path, stdin: str = "") -> Finished:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Finished(exit.value.code if isinstance(exit.value.code, int) else 0, out, err)

    return run


@pytest.fixture(scope="session")
def reviews_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty short reviews that TF-IDF can tell apart."""
    good = ("warm", "funny", "true", "loved")
    bad = ("dull", "worse", "cold", "hated")
    lines = ["text,label"]
    for number in range(60):
        words, label = (good, "pos") if number % 2 == 0 else (bad, "neg")
        lines.append(f"A {words[number % 4]} film {number},{label}")
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def encoder_decoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random BART with a tokenizer, saved by transformers."""
    import torch
    from tiny_models import small_tokenizer
    from transformers import BartConfig, BartForConditionalGeneration

    folder = tmp_path_factory.mktemp("bart")
    tokenizer = small_tokenizer()
    torch.manual_seed(0)
    sizes = {f"{stack}_{name}": size for stack in ("encoder", "decoder") for name, size in _STACK.items()}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 2}
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=24,
        max_position_embeddings=128,
        init_std=0.3,
        forced_eos_token_id=None,
        **sizes,
        **ids,
    )
    BartForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def project(tmp_path: Path, reviews_csv: Path, llama_folder: Path) -> Path:
    """A project of a tiny model and the baselines, not run yet."""
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "reviews.csv").write_bytes(reviews_csv.read_bytes())
    (folder / "germinal.toml").write_text(
        f"""
[scope]
use_case = "Say whether a film review is positive or negative"
data = "reviews.csv"
input = "text"
target = "label"
split = {{ dev = 15, test = 15 }}
metrics = ["accuracy", "f1_macro"]
success = {{ accuracy = 0.5 }}

[select]
models = ["{llama_folder.as_posix()}"]

[adapt.prompt]
instruction = "Classify this review:"
answer = "Sentiment:"
rules = ["generate", "calibrated"]
""",
        encoding="utf-8",
    )
    return folder
