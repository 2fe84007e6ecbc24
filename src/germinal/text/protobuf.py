"""Protocol buffers' wire format, read without a schema: https://protobuf.dev/programming-guides/encoding/."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field of a message: integers, floats, and bytes for length-delimited fields.

    Raises:
        ValueError, IndexError, struct.error: the message is truncated or malformed.
    """
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield number, value
        elif wire in (1, 5):
            size, form = (8, "<d") if wire == 1 else (4, "<f")
            yield number, struct.unpack(form, data[place : place + size])[0]
            place += size
        elif wire == 2:
            length, place = _varint(data, place)
            if place + length > len(data):
                raise ValueError("a field is longer than the file")
            yield number, data[place : place + length]
            place += length
        else:
            raise ValueError(f"wire type {wire} is unknown")


def packed(data: bytes) -> list[int]:
    """The integers of a packed repeated field; 64-bit values from 2^63 are read as negative."""
    found, place = [], 0
    while place < len(data):
        value, place = _varint(data, place)
        found.append(value - (1 << 64) if value >> 63 else value)
    return found


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise ValueError("a varint is too long")
