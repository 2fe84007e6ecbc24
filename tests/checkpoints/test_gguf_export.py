"""GGUF files that we write: read by the gguf package and by ourselves, and refused where the format has no words.

What llama.cpp makes of them is in test_llama_cpp.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf_models import ALL, SPECIAL, TEXTS, published, save_model
from gguf_writing import gguf_name, permuted
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

import germinal
from germinal.checkpoints.gguf_tokenizer import tokenizer_from_gguf
from germinal.checkpoints.gguf_vocabulary import tokenizer_metadata
from germinal.errors import SettingError, UnsupportedError
from germinal.language_model import LanguageModel
from germinal.text.tokenizer import Tokenizer as OurTokenizer

Written = Callable[[str], tuple[LanguageModel, Path]]
KEYS = {
    value
    for section in (gguf.Keys.General, gguf.Keys.LLM, gguf.Keys.Attention, gguf.Keys.Rope, gguf.Keys.Tokenizer)
    for value in vars(section).values()
    if isinstance(value, str)
} | {gguf.Keys.Classifier.OUTPUT_LABELS}
NEWER = {
    "tokenizer.ggml.normalizer.lowercase",
    "tokenizer.ggml.normalizer.strip_accents",
    "tokenizer.ggml.cls_token_id",
}


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


@pytest.mark.parametrize("name", ALL)
def test_names_keys_and_shapes_are_those_of_the_format(written: Written, name: str) -> None:
    lm, path = written(name)
    file = gguf.GGUFReader(path)
    architecture = file.fields["general.architecture"].contents()
    number = next(number for number, known in gguf.MODEL_ARCH_NAMES.items() if known == architecture)
    known = {gguf.TENSOR_NAMES[tensor] for tensor in gguf.MODEL_TENSORS[number]}
    for tensor in file.tensors:
        stem = ".".join("{bid}" if part.isdigit() else part for part in tensor.name.split(".")[:-1])
        assert stem in known
        assert np.isfinite(tensor.data).all()
    for key in file.fields:
        general = key.replace(f"{architecture}.", "{arch}.", 1) if key.startswith(f"{architecture}.") else key
        assert general in KEYS | NEWER or key.startswith(("GGUF.", "germinal.", "general.base_model.")), key
    tokens = file.fields["tokenizer.ggml.tokens"].contents()
    (embedding,) = [tensor for tensor in file.tensors if tensor.name == "token_embd.weight"]
    assert tuple(embedding.data.shape) == (len(tokens), lm.config.hidden_size)  # of which llama.cpp makes sure


@pytest.mark.parametrize("name", ALL)
def test_read_again_it_is_the_same_model(written: Written, name: str) -> None:
    lm, path = written(name)
    again = germinal.load(path)
    weights = again.network.state_dict()
    for key, tensor in lm.network.state_dict().items():
        torch.testing.assert_close(weights[key], tensor, rtol=0, atol=1e-7)
    for text in TEXTS:
        ids = lm.tokenizer.encode(text)
        assert again.tokenizer.encode(text) == ids
        assert again.tokenizer.decode(ids) == lm.tokenizer.decode(ids)
    if lm.config.stacks == "encoder":
        np.testing.assert_allclose(again.encode(TEXTS, pooling="mean"), lm.encode(TEXTS, pooling="mean"), atol=1e-6)
        assert again.head_config == lm.head_config
        return
    for key in ("bos_token_id", "pad_token_id", "decoder_start_token_id"):
        assert again.hf_generation_config.get(key) == lm.hf_generation_config.get(key)
    ended = {id for id in (0, 2) if lm.tokenizer.pieces([id])[0] in ("<|endoftext|>", "<|im_end|>", "</s>")}
    ids_of_end = again.generation_defaults.eos_ids or ()  # in a GGUF file, some texts always end an answer
    assert set(ids_of_end) == ended | set(lm.generation_defaults.eos_ids or ())
    assert again.chat_template.source == lm.chat_template.source
    source = {"decoder_input_ids": [[0, 5, 6]]} if lm.two_stacks else {}
    torch.testing.assert_close(again.logits([ids], **source), lm.logits([ids], **source), rtol=1e-5, atol=1e-5)


def test_tensors_are_laid_out_as_llama_cpps_converter_does(written: Written) -> None:
    lm, path = written("llama")
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    for key, tensor in load_file(path.parent / "hf" / "model.safetensors").items():
        values, theirs = tensor.numpy(), gguf_name(key)
        heads = {"attn_q": lm.config.num_heads, "attn_k": lm.config.num_kv_heads}.get(theirs.split(".")[-2])
        np.testing.assert_array_equal(stored.pop(theirs), values if heads is None else permuted(values, heads))
    assert not stored


def test_a_folder_comes_out_of_it_again(written: Written, tmp_path: Path) -> None:
    for name in ("gpt2", "gemma3", "t5-1.0"):
        path = written(name)[1]
        folder = germinal.load(path).save(tmp_path / name)
        (ours, theirs) = (load_file(each / "model.safetensors") for each in (folder, path.parent / "hf"))
        assert ours.keys() <= theirs.keys()
        for key, tensor in ours.items():
            torch.testing.assert_close(tensor, theirs[key], rtol=0, atol=1e-7)


@pytest.mark.parametrize(("precision", "kind"), [("float16", "F16"), ("bfloat16", "BF16"), ("float32", "F32")])
def test_matrices_in_half_precision_vectors_whole(written: Written, tmp_path: Path, precision: str, kind: str) -> None:
    for name in ("llama", "bert", "gemma3"):
        lm, _ = written(name)
        path = lm.save(tmp_path / f"{name}.gguf", precision)
        file, whole = gguf.GGUFReader(path), ("position_embd.weight", "token_types.weight")
        for tensor in file.tensors:
            expected = kind if len(tensor.shape) == 2 and tensor.name not in whole else "F32"
            assert tensor.tensor_type.name == expected, tensor.name
        dtype = getattr(torch, precision)
        again = germinal.load(path, precision="float32").network.state_dict()
        rounded = lm.network.state_dict()["embed_tokens.weight"].to(dtype).float()
        assert torch.equal(again["embed_tokens.weight"], rounded)
        assert germinal.load(path).precision.startswith("bfloat16" if kind == "BF16" else "float32")


def test_bfloat16_factors_of_norms_come_back_exactly(written: Written, tmp_path: Path) -> None:
    lm = germinal.load(written("gemma3")[1].parent / "hf", precision="bfloat16")
    again = germinal.load(lm.save(tmp_path / "half.gguf"))
    assert again.precision == "bfloat16"
    for key, tensor in lm.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[key], tensor, rtol=0, atol=1e-6)


def test_a_failure_leaves_what_was_there(written: Written, tmp_path: Path) -> None:
    lm, _ = written("gpt2")
    path = tmp_path / "model.gguf"
    path.write_text("before")
    weight = lm.network.state_dict()["decoder.layers.0.feed_forward.up_proj.weight"]
    kept = weight[0, 0].item()
    weight[0, 0] = 1e6
    try:
        with pytest.raises(UnsupportedError, match=r"blk\.0\.ffn_up\.weight: holds values outside the range"):
            lm.save(path, "float16")
    finally:
        weight[0, 0] = kept
    assert [file.name for file in tmp_path.iterdir()] == ["model.gguf"]
    assert path.read_text() == "before"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mistral", {"window": 5}, r"config\.window: .* 'llama' would be read back with None, not 5"),
        ("qwen2", {"window": 5}, r"config\.window"),
        ("gpt2", {"attention_scale": 1.0}, r"config\.attention_scale: .*, not 1\.0"),
        ("gpt2", {"activation": "relu"}, r"config\.activation"),
        ("t5-1.0", {"max_distance": 64}, r"config\.max_distance"),
        ("t5-1.1", {"activation": "silu"}, r"config\.activation"),
        ("bert", {"activation": "relu"}, r"config\.activation"),
        ("gemma3", {"attention_scale": 0.1}, r"config\.attention_scale"),
        ("llama", {"norm_placement": "post"}, r"config\.norm_placement"),
    ],
)
def test_what_a_file_would_say_otherwise_is_refused(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: dict[str, Any], message: str
) -> None:
    lm, _ = written(name)
    monkeypatch.setattr(lm.network, "config", replace(lm.config, **change))
    with pytest.raises(UnsupportedError, match=message):
        lm.save(tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


def test_a_window_that_no_text_reaches_is_none(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, _ = written("mistral")
    monkeypatch.setattr(lm.network, "config", replace(lm.config, window=96))
    assert germinal.load(lm.save(tmp_path / "model.gguf")).config.window is None


def test_heads_and_families_without_a_place_are_refused(tmp_path: Path) -> None:
    from tiny_encoders import save_encoder

    for number, (kind, message) in enumerate(
        {
            "BertForMaskedLM": r"no names for the tensors of the head 'masked-lm'(?s:.*)--without-head",
            "BertForTokenClassification": r"'sequence-classification', not 'token-cl(?s:.*)--without-head",
            "RobertaModel": "family 'roberta' has no form in GGUF. These have: .*gpt2",
        }.items()
    ):
        (folder := tmp_path / str(number)).mkdir()
        with pytest.raises(UnsupportedError, match=message):
            germinal.load(save_encoder(folder, kind)).save(tmp_path / "model.gguf")


def test_precisions(written: Written, tmp_path: Path) -> None:
    lm, _ = written("gpt2")
    with pytest.raises(SettingError, match="Did you mean 'float16'"):
        lm.save(tmp_path / "model.gguf", "floot16")
    with pytest.raises(SettingError, match="a folder holds the weights as they were loaded"):
        lm.save(tmp_path / "folder", "float16")


def test_an_encoder_without_its_head(written: Written, tmp_path: Path) -> None:
    from tiny_encoders import save_encoder

    (folder := tmp_path / "masked").mkdir()
    lm = germinal.load(save_encoder(folder, "BertForMaskedLM"))
    again = germinal.load(lm.save(tmp_path / "model.gguf", without_head=True))
    assert again.config.head is None
    np.testing.assert_allclose(again.encode(TEXTS, pooling="mean"), lm.encode(TEXTS, pooling="mean"), atol=1e-6)
    with pytest.raises(SettingError, match="without_head: is for encoders"):
        written("gpt2")[0].save(tmp_path / "other.gguf", without_head=True)


def ours(backend: Tokenizer, **config: Any) -> OurTokenizer:
    named = {"bos_token": SPECIAL[1], "eos_token": SPECIAL[2], "pad_token": SPECIAL[0]}
    return OurTokenizer(backend, {**named, **config}, name="tiny")


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2", "bloom"])
def test_a_way_of_splitting_is_found_by_what_it_does(pre: str) -> None:
    metadata = tokenizer_metadata(ours(published(pre)), 500)
    assert metadata["tokenizer.ggml.pre"] == pre
    again = tokenizer_from_gguf(metadata, "tiny")
    assert json.loads(again.backend.to_str())["model"] == json.loads(published(pre).to_str())["model"]


def changed(pre: str, **parts: Any) -> OurTokenizer:
    backend = published(pre)
    for part, value in parts.items():
        setattr(backend, part, value)
    return ours(backend)


def unordered() -> OurTokenizer:
    """A byte-fallback BPE whose pairs stand in an order that no scores of tokens give."""
    tokens = ["<unk>", "▁", "a", "b", "c", "ab", "bc", "abc", *(f"<0x{byte:02X}>" for byte in range(256))]
    merges = [("a", "bc"), ("a", "b"), ("b", "c"), ("ab", "c")]
    vocabulary = {token: id for id, token in enumerate([*SPECIAL, *tokens])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.ByteFallback()
    return ours(backend)


def without_end() -> OurTokenizer:
    return OurTokenizer(published("gpt-2"), {}, name="tiny")


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (
            lambda: changed("gpt-2", pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)),
            "has no name in GGUF",
        ),
        (lambda: changed("gpt-2", pre_tokenizer=pre_tokenizers.Whitespace()), "Known: gpt-2, roberta-bpe"),
        (lambda: changed("qwen2", normalizer=normalizers.Lowercase()), "has no name in GGUF"),
        (lambda: changed("bloom", pre_tokenizer=pre_tokenizers.Split(Regex("x"), "isolated")), "has no name in GGUF"),
        (unordered, "merges that do not follow from scores"),
        (without_end, "no token ends an answer"),
    ],
)
def test_a_tokenizer_that_would_become_another_is_refused(tokenizer: Callable[[], OurTokenizer], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        tokenizer_metadata(tokenizer(), 500)


def test_several_ends_of_an_answer_and_how_it_is_drawn(written: Written, tmp_path: Path) -> None:
    lm, _ = written("gpt2")
    kept = dict(lm.hf_generation_config)
    try:
        lm.hf_generation_config |= {"eos_token_id": [2, 0], "do_sample": True, "temperature": 0.5, "top_k": 7}
        again = germinal.load(lm.save(tmp_path / "model.gguf")).hf_generation_config
        lm.hf_generation_config["eos_token_id"] = [2, 0, 1, 5, 6]
        with pytest.raises(UnsupportedError, match="4 tokens that end an answer"):
            lm.save(tmp_path / "model.gguf")
    finally:
        lm.hf_generation_config = kept
    assert again["eos_token_id"] == [2, 0]
    assert (again["do_sample"], again["temperature"], again["top_k"]) == (True, 0.5, 7)


def test_the_real_encoder_keeps_its_pooling(minilm: str, tmp_path: Path) -> None:
    lm = germinal.load(minilm, precision="float32")
    again = germinal.load(lm.save(tmp_path / "minilm.gguf"))
    assert again.head_config == lm.head_config
    assert (again.card.name, again.card.licence) == (lm.card.name, lm.card.licence)
    np.testing.assert_array_equal(again.encode(TEXTS), lm.encode(TEXTS))
    assert lm.head_config.pooling is not None
    prompted = replace(lm.head_config.pooling, prompts={"query": "query: ", "": ""}, default_prompt="query")
    lm.head_config = replace(lm.head_config, pooling=prompted)
    again = germinal.load(lm.save(tmp_path / "prompted.gguf"))
    assert again.head_config == lm.head_config
    lm.head_config = replace(lm.head_config, pooling=replace(prompted, modes=("max",)))
    with pytest.raises(UnsupportedError, match="pooled by 'max', which GGUF cannot express"):
        lm.save(tmp_path / "max.gguf")


@pytest.mark.slow
def test_the_file_of_the_real_decoder_is_the_model_it_was_made_from(smollm2: str, tmp_path: Path) -> None:
    lm = germinal.load(smollm2, precision="bfloat16")
    path = lm.save(tmp_path / "smollm2.gguf")
    assert germinal.load(path).fingerprint == lm.fingerprint
    path.unlink()
