"""What we write, read by llama.cpp: the same token ids, the same greedy answers, the same logits and vectors.

llama.cpp compiles for minutes and belongs to the extra `bench`: `make test-gguf` installs it and runs these tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf_models import ALL, DECODERS, TEXTS, save_model

import germinal
from germinal.language_model import LanguageModel

llama_cpp = pytest.importorskip("llama_cpp", reason="llama.cpp is not installed: make test-gguf")
pytestmark = pytest.mark.slow

FLOAT32 = 0
NEW = 24
Written = Callable[[str], tuple[LanguageModel, Path]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """`written(name)`: a small model as we load it, and the file that we wrote of it."""
    done: dict[str, tuple[LanguageModel, Path]] = {}

    def write(name: str) -> tuple[LanguageModel, Path]:
        if name not in done:
            folder = tmp_path_factory.mktemp("gguf")
            lm = germinal.load(save_model(folder / "hf", name), precision="float32")
            done[name] = lm, lm.save(folder / "model.gguf")
        return done[name]

    return write


def opened(path: Path, **options: Any) -> Any:
    """The model in llama.cpp, keys and values in float32 as ours are."""
    kept = {"type_k": FLOAT32, "type_v": FLOAT32, "n_threads": 1, "n_threads_batch": 1, "n_ctx": 96}
    return llama_cpp.Llama(str(path), verbose=False, **{**kept, **options})


def greedy(model: Any, ids: list[int], count: int) -> list[int]:
    """The answer of llama.cpp's own loop, ended by any token that ends one."""
    answer: list[int] = []
    for id in model.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
        if llama_cpp.llama_vocab_is_eog(model._model.vocab, id) or len(answer) == count:
            break
        answer.append(id)
    return answer


@pytest.mark.parametrize("name", ALL)
def test_token_ids(written: Written, name: str) -> None:
    lm, path = written(name)
    model = opened(path, vocab_only=True)
    for text in [*TEXTS, f"{TEXTS[0]}  {TEXTS[2]}"]:
        assert model.tokenize(text.encode(), add_bos=True, special=True) == lm.tokenizer.encode(text)


@pytest.mark.parametrize("name", DECODERS)
def test_logits_and_greedy_answers(written: Written, name: str) -> None:
    lm, path = written(name)
    model = opened(path, logits_all=True)
    for text in TEXTS:
        ids = lm.tokenizer.encode(text)
        model.reset()
        model.eval(ids)
        ours = lm.logits([ids])[0].numpy()
        # GELU is a table of float16 there; what is left is far below the distance between two tokens
        np.testing.assert_allclose(model.scores[: len(ids)], ours, atol=0.02, rtol=1e-3)
        answer = lm.generate(text, max_new_tokens=NEW, temperature=0.0)
        assert greedy(model, ids, NEW) == list(answer.token_ids)


@pytest.mark.parametrize("name", [name for name in ALL if name.startswith("t5")])
def test_an_encoder_decoder_through_the_low_level_interface(written: Written, name: str) -> None:
    lm, path = written(name)
    model = opened(path)
    scale = lm.config.logit_scale  # which llama.cpp leaves out: the order of the tokens is the same
    for text in TEXTS:
        ids = lm.tokenizer.encode(text)
        answer, logits = translated(model, ids, lm.decoder_start_id, NEW)
        ours = lm.generate(text, max_new_tokens=NEW, temperature=0.0)
        assert answer == list(ours.token_ids)
        written_ids = [lm.decoder_start_id, *answer][: len(logits)]
        expected = lm.logits([ids], decoder_input_ids=[written_ids])[0].numpy()
        np.testing.assert_allclose(logits * scale, expected, atol=0.02, rtol=1e-3)


def translated(model: Any, ids: list[int], start: int, count: int) -> tuple[list[int], np.ndarray[Any, Any]]:
    """Greedy answer and logits of each of its steps; the encoder runs once."""
    context = model._ctx.ctx
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    assert llama_cpp.llama_encode(context, batch_of(ids)) == 0
    assert llama_cpp.llama_model_decoder_start_token(model._model.model) == start
    answer, logits, token = [], [], start
    for place in range(count):
        assert llama_cpp.llama_decode(context, batch_of([token], place)) == 0
        row = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), shape=(model.n_vocab(),)).copy()
        logits.append(row)
        token = int(row.argmax())
        if token == model.token_eos():
            break
        answer.append(token)
    return answer, np.stack(logits)


def batch_of(ids: list[int], place: int = 0) -> Any:
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for number, id in enumerate(ids):
        batch.token[number], batch.pos[number] = id, place + number
        batch.n_seq_id[number], batch.seq_id[number][0] = 1, 0
        batch.logits[number] = number == len(ids) - 1
    return batch


@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_hidden_states(written: Written, name: str) -> None:
    lm, path = written(name)
    model = opened(path, embedding=True, pooling_type=llama_cpp.LLAMA_POOLING_TYPE_NONE)
    for text in TEXTS:
        ids = lm.tokenizer.encode(text)
        theirs = np.asarray(model.embed(text))
        with torch.no_grad():
            ours = lm.network(torch.tensor([ids]))[0].numpy()
        np.testing.assert_allclose(theirs, ours, atol=0.02)


def test_classes(written: Written) -> None:
    lm, path = written("bert-classifier")
    model = opened(path, embedding=True)
    for text in TEXTS:
        logits = np.asarray(model.embed(text))[: lm.config.num_labels]
        ours = [lm.classify(text).probabilities[label] for label in lm.head_config.labels]
        np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(), ours, atol=0.01)


@pytest.fixture(scope="module")
def real_decoder(smollm2: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LanguageModel, Path]]:
    lm = germinal.load(smollm2, precision="float32")
    path = lm.save(tmp_path_factory.mktemp("gguf") / "smollm2.gguf")
    yield lm, path
    path.unlink()  # half a gigabyte


def test_the_real_decoder(real_decoder: tuple[LanguageModel, Path]) -> None:
    lm, path = real_decoder
    model = opened(path, n_ctx=512)
    chat = [{"role": "user", "content": "Name three primary colours."}]
    prompts = [
        "The capital of France is",
        "def fibonacci(n):\n",
        lm.chat_template.render(chat),
        "1, 2, 3, 5, 8,",
        "Once",
    ]
    for prompt in prompts:
        ids = lm.tokenizer.encode(prompt)
        assert model.tokenize(prompt.encode(), add_bos=True, special=True) == ids
        assert greedy(model, ids, 40) == list(lm.generate(prompt, max_new_tokens=40, temperature=0.0).token_ids)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_the_real_decoder_in_half_precision(smollm2: str, tmp_path: Path, precision: str) -> None:
    path = germinal.load(smollm2, precision="float32").save(tmp_path / "half.gguf", precision)
    lm, model = germinal.load(path, precision="float32"), opened(path)
    prompt = "The capital of France is"
    answer = list(lm.generate(prompt, max_new_tokens=12, temperature=0.0).token_ids)
    assert greedy(model, lm.tokenizer.encode(prompt), 12) == answer


def test_the_real_encoder(minilm: str, tmp_path: Path) -> None:
    lm = germinal.load(minilm, precision="float32")
    model = opened(lm.save(tmp_path / "minilm.gguf"), embedding=True, n_ctx=512)
    texts = [*TEXTS, "The quick brown fox jumps over the lazy dog.", "Ein Satz auf Deutsch; und une phrase française."]
    ours = lm.encode(texts)
    theirs = np.asarray([model.embed(text, normalize=True) for text in texts])
    assert np.abs(theirs - np.asarray(ours)).max() < 1e-3
