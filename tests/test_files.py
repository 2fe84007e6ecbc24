"""Files that somebody else wrote are read within limits, and every refusal names the file."""

import os

import pytest

from germinal.errors import CheckpointError, DataError
from germinal.files import MAX_DEPTH, parse_json, read_bytes, read_json, read_json_object


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"a": 1', "not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"a": "\xff"}', "not UTF-8: byte 7 is 0xff"),
        (b"[" * 200 + b"]" * 200, "nested more than 64 deep"),
        (b"[" * 100_000 + b"]" * 100_000, "nested more than 64 deep"),
        (b'{"a": "\\ud83d"}', "half of a character"),
        (b'{"\\udc00": 1}', "half of a character"),
        (b"[1]", "must hold a JSON object"),
        (b"", "not valid JSON"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, content, problem):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=problem) as refused:
        read_json_object(tmp_path / "config.json")
    assert refused.value.where == str(tmp_path / "config.json")


def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "config.json")  # opening it would wait for a writer
    for path in (tmp_path / "config.json", tmp_path, tmp_path / "missing.json", tmp_path / "a\0b"):
        with pytest.raises(DataError, match=r"regular file|cannot be read"):
            read_json(path, error=DataError)
    with pytest.raises(CheckpointError, match="regular file"):
        read_bytes(type(tmp_path)("/dev/zero"))


def test_a_file_has_a_largest_size(tmp_path):
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(CheckpointError, match="has 11 bytes; at most 10 are read"):
        read_bytes(tmp_path / "large", most=10)
    assert len(read_bytes(tmp_path / "large", most=11)) == 11


def test_what_published_files_hold_is_read():
    text = '{"name": "caf\\u00e9 \\ud83d\\ude00", "limits": [1, 2.5, null, true], "nested": {"a": {"b": []}}}'
    value = parse_json(text, where="config.json")
    assert value == {"name": "café 😀", "limits": [1, 2.5, None, True], "nested": {"a": {"b": []}}}
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, where="config.json")
