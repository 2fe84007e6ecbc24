"""Protocol buffers read without a schema, against the bytes that the format's own documentation gives."""

from __future__ import annotations

import struct

import pytest

from germinal.text.protobuf import fields, packed


def test_each_kind_of_field() -> None:
    message = bytes.fromhex("089601 1207 74657374696e67".replace(" ", ""))  # 150, and "testing"
    message += b"\x1d" + struct.pack("<f", 0.5) + b"\x21" + struct.pack("<d", -2.0)
    assert list(fields(message)) == [(1, 150), (2, b"testing"), (3, 0.5), (4, -2.0)]


def test_packed_numbers_and_what_is_below_zero() -> None:
    assert packed(bytes.fromhex("038e029ea705")) == [3, 270, 86942]
    assert packed(bytes.fromhex("feffffffffffffffff01")) == [-2]


@pytest.mark.parametrize("broken", ["0896", "1207746573", "0b", "08ffffffffffffffffffff01"])
def test_a_broken_message_is_an_error(broken: str) -> None:
    with pytest.raises((ValueError, IndexError, struct.error)):
        list(fields(bytes.fromhex(broken)))
