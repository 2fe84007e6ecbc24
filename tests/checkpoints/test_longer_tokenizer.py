"""Tokenizers with more ids than the embedding has rows: Gemma 3's <image_soft_token>, a padding token added later.

The model loads and answers as in transformers; a text that produces an id without a row is refused, wherever it enters.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer

import germinal
from germinal.checkpoints.tokenizer_files import folder_tokenizer
from germinal.errors import SettingError, VocabularyMismatchError
from germinal.serving.errors import translated
from germinal.text.detokenizer import Detokenizer
from germinal.training.examples import encode_example

IMAGE = "<image_soft_token>"


@pytest.fixture(scope="module")
def folder(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaMA with one token more than rows."""
    return lengthened(llama_folder, tmp_path_factory.mktemp("longer") / "model")


def lengthened(source: Path, target: Path, **config: Any) -> Path:
    shutil.copytree(source, target)
    tokenizer = Tokenizer.from_file(str(target / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(IMAGE, special=True, normalized=False)])
    tokenizer.save(str(target / "tokenizer.json"))
    told = json.loads((target / "tokenizer_config.json").read_text())
    (target / "tokenizer_config.json").write_text(json.dumps({**told, **config}))
    return target


@pytest.fixture(scope="module")
def lm(folder: Path) -> Any:
    return germinal.load(folder, precision="float32", device="cpu")


def test_it_answers_as_in_transformers(lm: Any, folder: Path) -> None:
    ids = torch.tensor([lm.tokenizer.encode("A film")])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        torch.testing.assert_close(lm.logits(ids), theirs(ids).logits, atol=1e-4, rtol=1e-4)
    assert lm.generate("A film", max_new_tokens=4).token_ids


@pytest.mark.parametrize(
    "use",
    [
        lambda lm, text: lm.generate(text, max_new_tokens=2),
        lambda lm, text: lm.generate([{"role": "user", "content": text}], max_new_tokens=2),
        lambda lm, text: list(lm.stream(text, max_new_tokens=2)),
        lambda lm, text: lm.score("A film", [text]),
        lambda lm, text: lm.encode([text]),
        lambda lm, text: lm.next_token_distribution(text),
        lambda lm, text: lm.attention_maps(text),
        lambda lm, text: encode_example(lm.tokenizer, "A film", text),
        lambda lm, text: lm.tokenizer.encode_batch([text]),
        lambda lm, text: lm.tokenizer.windows("A film", text, 20, 2),
    ],
    ids=["generate", "chat", "stream", "score", "encode", "next token", "attention", "tune", "batch", "windows"],
)
def test_a_text_with_the_token_is_refused(lm: Any, use: Callable[[Any, str], Any]) -> None:
    with pytest.raises(VocabularyMismatchError, match=r"'<image_soft_token>' has id \d+, and the embedding of 'model'"):
        use(lm, f"A {IMAGE} film")


@pytest.mark.parametrize("id", [-1, 400])
def test_ids_given_as_such_are_refused_too(lm: Any, id: int) -> None:
    ids = torch.tensor([[5, id]])
    for use in (lambda: lm.logits(ids), lambda: lm.loss(ids), lambda: lm.loss([[5, 6]], labels=ids)):
        with pytest.raises(SettingError, match="outside the model's vocabulary of 400"):
            use()


def test_to_a_server_it_is_the_clients_fault() -> None:
    found = translated(VocabularyMismatchError("token '<x>' has id 64, and the embedding has 64 rows."))
    assert (found.status, found.code) == (400, "token_without_embedding")


def test_the_tokenizer_alone_encodes_it(folder: Path) -> None:
    """Without a model there is no row to lack."""
    tokenizer = folder_tokenizer(folder, "tiny")
    assert tokenizer.pieces(tokenizer.encode(IMAGE)) == [IMAGE]


def test_a_padding_token_without_a_row_fills_no_row(llama_folder: Path, tmp_path: Path) -> None:
    """It was added to the tokenizer only; what fills a batch is not read. What is written loads in transformers."""
    lm = germinal.load(lengthened(llama_folder, tmp_path / "padded", pad_token=IMAGE), precision="float32")
    vectors = lm.encode(["A film", "A film that is warm, funny and true."])
    torch.testing.assert_close(torch.tensor(vectors[:1]), torch.tensor(lm.encode(["A film"])), atol=1e-5, rtol=1e-5)
    lm.save(tmp_path / "written")
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "written")
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "written").pad_token == IMAGE


def test_rows_are_compared_with_ids_not_with_entries(tmp_path: Path) -> None:
    """A vocab.txt that repeats a line has fewer entries than ids, and an embedding for the ids."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "a", "b"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    tokenizer = folder_tokenizer(tmp_path, "tiny")
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode("a b") == theirs("a b")["input_ids"] == [2, 6, 7, 3]
    assert tokenizer.vocab_size == 8
    tokenizer.check_belongs(8)
    with pytest.raises(VocabularyMismatchError, match="no embedding for 1 of them"):
        tokenizer.check_belongs(7)
    assert not tokenizer.has_piece(5)
    assert tokenizer.decode([5, 7]) == theirs.decode([5, 7]) == "b"
    text = Detokenizer(tokenizer)
    assert text.push(5) + text.push(7) + text.finish() == "b"


@pytest.mark.parametrize(
    ("rows", "belongs"),
    [(-1, False), (0, True), (1024, True), (1025, False)],
)
def test_whose_tokenizer_it_is(llama_folder: Path, rows: int, belongs: bool) -> None:
    """Spare rows are padding up to a point; the vocabulary's own ids all have a row."""
    tokenizer = folder_tokenizer(llama_folder, "tiny")
    if belongs:
        tokenizer.check_belongs(tokenizer.vocab_size + rows)
    else:
        with pytest.raises(VocabularyMismatchError):
            tokenizer.check_belongs(tokenizer.vocab_size + rows)
