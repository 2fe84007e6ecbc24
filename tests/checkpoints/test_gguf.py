"""GGUF files: the same model as the one that was packed, and a clear error for every way to spoil one."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize as by_package
from gguf_writing import gguf_name, permuted, write_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import random_llama, small_tokenizer

from germinal.checkpoints.formats import read
from germinal.checkpoints.gguf_header import read_header
from germinal.errors import CheckpointError, GerminalError, ModelNotFoundError, UnsupportedError
from germinal.models.transformer import Transformer

SIZES: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96}


@pytest.fixture(scope="module")
def peer() -> Any:
    tokenizer = small_tokenizer()
    return random_llama(vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, pad_token_id=0, **SIZES), tokenizer


@pytest.fixture(scope="module")
def plain(peer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, *peer)
    return path


def test_the_header_is_the_packages(plain: Path) -> None:
    header, theirs = read_header(plain), GGUFReader(plain)
    metadata = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert metadata.keys() == header.metadata.keys()
    for key, value in metadata.items():
        assert header.metadata[key] == (pytest.approx(value) if isinstance(value, float) else value)
    assert header.metadata["llama.attention.layer_norm_rms_epsilon"] == 1e-5  # as written, not as float32 prints it
    for tensor in theirs.tensors:
        ours = header.tensors[tensor.name]
        assert ours.shape == tuple(int(size) for size in reversed(tensor.shape))
        assert (ours.offset, ours.size, ours.kind) == (tensor.data_offset, tensor.n_bytes, tensor.tensor_type)


def test_logits_are_those_of_the_model_that_was_packed(peer: Any, plain: Path) -> None:
    model, tokenizer = peer
    checkpoint = read(plain)
    network = Transformer(checkpoint.config, device="meta")
    network.load_state_dict(checkpoint.state_dict, assign=True)
    ids = torch.tensor([tokenizer.encode("Classify this review: A film that is warm.\nSentiment:")])
    assert ids.tolist() == [checkpoint.tokenizer.encode("Classify this review: A film that is warm.\nSentiment:")]
    with torch.no_grad():
        torch.testing.assert_close(network.logits(network(ids)), model(ids).logits, atol=1e-4, rtol=1e-4)
    assert checkpoint.tokenizer.chat_template == tokenizer.chat_template
    assert checkpoint.generation_config == {"bos_token_id": 1, "eos_token_id": [2, 0], "pad_token_id": 0}
    assert (checkpoint.card.name, checkpoint.card.licence) == ("tiny", "mit")
    assert checkpoint.card.stored_precision == "float32"


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_weights_are_the_packages_floats(peer: Any, tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    packing = GGMLQuantizationType[kind]
    packed = write_gguf(tmp_path / "packed.gguf", *peer, kind=packing)
    checkpoint = read(tmp_path / "packed.gguf", dtype)
    rules = checkpoint.family.gguf.rules(checkpoint.config)  # type: ignore[union-attr]
    for name, blocks in packed.items():
        (ours,), transform = rules.ours(name) or (("",), None)
        expected = torch.from_numpy(np.asarray(by_package(blocks, packing), np.float32).copy()).to(dtype)
        assert torch.equal(checkpoint.state_dict[ours], transform.to_ours(expected)[0])  # type: ignore[union-attr]
    assert checkpoint.card.stored_precision == {"F16": "float16", "BF16": "bfloat16"}.get(kind, kind)
    assert read(tmp_path / "packed.gguf").state_dict["embed_tokens.weight"].dtype == (
        torch.bfloat16 if kind == "BF16" else torch.float32
    )


def test_rotary_rows_come_back_in_their_order() -> None:
    weight = torch.randn(12, 5).numpy()
    from germinal.models.weight_rules import PermuteRotary

    assert torch.equal(PermuteRotary(3).to_ours(torch.from_numpy(permuted(weight, 3)))[0], torch.from_numpy(weight))


def spoilt(plain: Path, folder: Path, change: Any) -> Path:
    data = bytearray(plain.read_bytes())
    path = folder / "spoilt.gguf"
    path.write_bytes(change(data) or data)
    return path


def replaced(data: bytearray, old: bytes, new: bytes) -> bytearray:
    assert old in data
    return data.replace(old, new, 1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda data: data[:10], CheckpointError, "truncated"),
        (lambda data: data[:2000], CheckpointError, "truncated"),
        (lambda data: data[:-1000], CheckpointError, "truncated: tensor"),
        (lambda data: b"GGML" + data[4:], CheckpointError, "does not start with 'GGUF'"),
        (lambda data: data[:4] + struct.pack("<I", 1) + data[8:], UnsupportedError, "version 1"),
        (lambda data: data[:4] + struct.pack(">I", 3) + data[8:], UnsupportedError, "big-endian"),
        (lambda data: data[:8] + struct.pack("<Q", 2**60) + data[16:], CheckpointError, "truncated or malformed"),
        (lambda data: data[:16] + struct.pack("<Q", 2**60) + data[24:], CheckpointError, "malformed"),
        (lambda data: data[:24] + struct.pack("<Q", 2**63) + data[32:], CheckpointError, "truncated or malformed"),
        (lambda d: replaced(d, b"blk.0.attn_q", b"blk.9.attn_q"), CheckpointError, r"missing: blk\.0\.attn_q\.weight"),
        (
            lambda d: replaced(d, b"blk.0.attn_q", b"blk.0.attn_x"),
            CheckpointError,
            r"not part of the model: blk\.0\.attn_x",
        ),
        (lambda d: replaced(d, b"blk.0.attn_q", b"blk.0.attn_k"), CheckpointError, "appears twice"),
        (lambda d: replaced(d, b"llama.context_length", b"llama.context_lengtX"), CheckpointError, "context_length"),
        (lambda d: replaced(d, b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba"), UnsupportedError, "mamba"),
        (lambda d: replaced(d, b"\x05\0\0\0\0\0\0\0gpt-2", b"\x05\0\0\0\0\0\0\0gpt-9"), UnsupportedError, "gpt-9"),
        (lambda d: replaced(d, b"\x04\0\0\0\0\0\0\0gpt2", b"\x04\0\0\0\0\0\0\0rwkv"), UnsupportedError, "rwkv"),
    ],
)
def test_a_spoilt_file_is_named_with_what_is_wrong(
    plain: Path, tmp_path: Path, change: Any, error: type[GerminalError], message: str
) -> None:
    path = spoilt(plain, tmp_path, change)
    with pytest.raises(error, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_misshapen_tensors_are_listed_with_both_shapes(peer: Any, tmp_path: Path) -> None:
    model, tokenizer = peer
    path = tmp_path / "tiny.gguf"
    model.model.layers[0].mlp.up_proj.weight.data = torch.zeros(32, 64)
    try:
        write_gguf(path, model, tokenizer)
    finally:
        model.model.layers[0].mlp.up_proj.weight.data = torch.randn(96, 64)
    with pytest.raises(CheckpointError, match=r"blk\.0\.ffn_up\.weight \[32, 64\] where \[96, 64\] is expected"):
        read(path)


@given(place=st.floats(0, 1), value=st.integers(0, 255))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_flipped_byte_of_the_header_escapes_as_another_exception(
    plain: Path, tmp_path: Path, place: float, value: int
) -> None:
    end = min(tensor.offset for tensor in read_header(plain).tensors.values())

    def flip(data: bytearray) -> None:
        data[int(place * (end - 1))] = value

    with suppress(GerminalError):  # anything else fails the test
        read(spoilt(plain, tmp_path, flip))


@pytest.mark.parametrize("keep", [30, 500, 3000, 9000])
def test_a_file_cut_anywhere_is_an_error(plain: Path, tmp_path: Path, keep: int) -> None:
    with pytest.raises(CheckpointError):
        read(spoilt(plain, tmp_path, lambda data: data[:keep]))


def test_other_rope_scalings_and_parts_of_a_model_are_refused_by_name(peer: Any, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, *peer, **{"llama.rope.scaling.type": "longrope"})
    with pytest.raises(UnsupportedError, match="'longrope'"):
        read(path)
    write_gguf(path, *peer, **{"split.count": 3})
    with pytest.raises(UnsupportedError, match="one of 3 parts"):
        read(path)


def entry(name: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    ("tensors", "pairs", "body", "message"),
    [
        (2**40, 0, b"", "1,099,511,627,776 tensors"),
        (0, 2**60, b"", "bytes are needed"),
        (0, 1, entry("a", 8, struct.pack("<Q", 2**63)), "9,223,372,036,854,775,808 bytes are needed"),
        (0, 1, entry("a", 9, struct.pack("<IQ", 10, 2**61)), "bytes are needed"),
        (0, 1, entry("a", 9, struct.pack("<IQ", 8, 2**62)), "bytes are needed"),
        (0, 1, entry("a", 9, struct.pack("<IQ", 9, 2**62) + struct.pack("<IQ", 9, 1) * 50), "value type 9"),
        (0, 1, entry("a", 13, b""), "value type 13"),
        (0, 1, entry("a", 8, struct.pack("<Q", 2) + b"\xff\xfe"), "not UTF-8"),
        (1, 0, struct.pack("<Q", 1) + b"t" + struct.pack("<I", 2**31), "2147483648 dimensions"),
        (1, 0, struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 0, 0, 0), "no values"),
        (1, 0, struct.pack("<Q", 1) + b"t" + struct.pack("<IQQIQ", 2, 2**62, 2**62, 0, 0), "truncated: tensor 't'"),
        (1, 0, struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 1, 0, 7), "not a multiple of 32"),
        (0, 1, entry("general.alignment", 4, struct.pack("<I", 0)), "alignment 0 is not a power of two"),
    ],
)
def test_a_length_is_checked_before_it_is_used(
    tmp_path: Path, tensors: int, pairs: int, body: bytes, message: str
) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + body)
    with pytest.raises(CheckpointError, match=message):
        read_header(path)


def test_tensors_that_share_bytes_are_not_unpacked(plain: Path, tmp_path: Path) -> None:
    """A small file could else be unpacked to any number of large tensors."""
    tensors = sorted(read_header(plain).tensors.values(), key=lambda tensor: tensor.offset)
    start = tensors[0].offset
    raw = plain.read_bytes()
    at = raw.index(tensors[1].name.encode()) + len(tensors[1].name) + 4 + 8 * len(tensors[1].shape) + 4
    assert struct.unpack_from("<Q", raw, at)[0] == tensors[1].offset - start
    shared = spoilt(plain, tmp_path, lambda data: data[:at] + bytes(8) + data[at + 8 :])
    with pytest.raises(CheckpointError, match="overlap"):
        read_header(shared)


def test_a_header_is_of_bounded_length(tmp_path: Path) -> None:
    path = tmp_path / "sparse.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entry("a", 9, struct.pack("<IQ", 0, 2**33)))
    with path.open("r+b") as file:
        file.truncate(2**34)  # takes no room on the disk
    with pytest.raises(CheckpointError, match="header would be longer"):
        read_header(path)


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe.gguf"
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="not a regular file"):
        read(path)
    (link := tmp_path / "zero.gguf").symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match="not a regular file"):
        read(link)


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        ({"tokenizer.ggml.padding_token_id": 10**6}, CheckpointError, "pad token id 1000000 is outside"),
        (
            {"llama.decoder_start_token_id": 2**31},
            CheckpointError,
            "decoder_start_token_id: is 2147483648, which is no",
        ),
        ({"tokenizer.ggml.eot_token_id": 10**6}, CheckpointError, "eos_token_id: is 1000000, which is no row"),
        ({"tokenizer.ggml.add_eos_token": "yes"}, CheckpointError, "must be true or false, not 'yes'"),
        ({"tokenizer.ggml.unknown_token_id": "7"}, CheckpointError, "must be a whole number, not '7'"),
        ({"general.sampling.temp": "hot"}, CheckpointError, "must be a number"),
        ({"general.sampling.mirostat": 2}, UnsupportedError, "mirostat"),
        ({"general.type": "adapter"}, UnsupportedError, "is 'adapter'"),
        ({"tokenizer.ggml.a_flag_of_tomorrow": 1}, UnsupportedError, "may change what the model does"),
        ({"llama.a_size_of_tomorrow": 1}, UnsupportedError, "may change what the model does"),
        ({"llama.pooling_type": 9}, UnsupportedError, "pooling_type: is 9"),
        ({"llama.embedding_length": 2**32 - 1}, CheckpointError, "hidden_size: must be at most"),
        ({"llama.block_count": 2**32 - 1}, CheckpointError, "there are [0-9]+ tensors"),
        ({"llama.rope.dimension_count": 2**31}, CheckpointError, "head_dim: must be at most"),
    ],
)
def test_a_value_is_checked_before_it_is_used(
    peer: Any, tmp_path: Path, metadata: dict[str, Any], error: type[GerminalError], message: str
) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, *peer)
    rewritten(path, tmp_path / "changed.gguf", metadata)
    with pytest.raises(error, match=message) as caught:
        read(tmp_path / "changed.gguf")
    assert "changed.gguf" in str(caught.value)


def rewritten(source: Path, target: Path, metadata: dict[str, Any]) -> None:
    """A copy of a file with other metadata, by the gguf package."""
    file = GGUFReader(source)
    writer = GGUFWriter(target, "llama")
    for key, field in file.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture" or key in metadata:
            continue
        if field.types[0] is GGUFValueType.ARRAY:
            writer.add_array(key, field.contents())
        else:
            writer.add_key_value(key, field.contents(), field.types[0])
    for key, value in metadata.items():
        writer.add_string(key, value) if isinstance(value, str) else writer.add_uint32(key, value)
    for tensor in file.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_version_2_reads_as_3_does(plain: Path, tmp_path: Path) -> None:
    older = spoilt(plain, tmp_path, lambda data: data[:4] + struct.pack("<I", 2) + data[8:])
    assert read_header(older).version == 2
    expected = read(plain).state_dict
    assert all(torch.equal(tensor, expected[name]) for name, tensor in read(older).state_dict.items())
    with pytest.raises(CheckpointError, match=r"Give the file itself: .*spoilt\.gguf"):
        read(tmp_path)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        read(tmp_path / "absent.gguf")


def test_the_names_cover_every_tensor(peer: Any, plain: Path) -> None:
    expected = {gguf_name(name) for name in peer[0].state_dict()}
    assert set(read_header(plain).tensors) == expected
