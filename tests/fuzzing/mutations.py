"""Structure-aware damage: a file is changed where its format has meaning, so that most gets past the first check."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import sqlite3
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

WHOLE_NUMBERS = [0, 1, -1, 2, 3, 7, 127, 255, 65_536, 2**31 - 1, 2**31, 2**32, 2_000_000_000, 2**63 - 1, 2**63, 10**30]
VALUES: list[Any] = [
    *WHOLE_NUMBERS,
    *(None, True, False, 0.5, -1.5, 1e308, float("nan"), float("inf"), "", "0", "a", "../../etc/passwd", "/etc/passwd"),
    *(
        "\x00",
        "é" * 300,
        "{{ 9**9**9 }}",
        "(a+)+$",
        [],
        {},
        [[]],
        [None],
        {"a": None},
        [1, "a"],
        {"0": 1},
        "mean",
        "gelu",
    ),
]
DTYPES = "BOOL U8 I8 I16 U16 F16 BF16 I32 U32 F32 F64 I64 U64 F8_E4M3 F8_E5M2 F4 C64 X9 f32".split()  # noqa: SIM905
TEMPLATES = [
    "{% for i in range(10**9) %}{% endfor %}",
    "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "{{ 'a' * 10**10 }}",
    "{{ 9**99999999 }}",
    "{{ 'a'.center(10**10) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ [0] * 10**9 }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ messages.__class__ }}",
    "{{ messages[9]['content'] }}",
    "{% if %}",
]
PATTERNS = [
    "(a+)+$",
    "(.*)*x",
    "(a|a)*b",
    r"(\w+\s?)*$",
    "[",
    "(?P<a>x)(?P<a>y)",
    "a{1000000000}",
    "(" * 200 + ")" * 200,
]


_DAMAGED = (ValueError, TypeError, LookupError, AttributeError, RecursionError, OSError)


def damage(path: Path, draw: random.Random) -> str:
    """Damage a file, and say in a few words how."""
    if not path.is_file() or draw.random() < 0.04:
        return _replace(path, draw)
    changes = BY_SUFFIX.get(path.suffix, [_change_lines])
    change = draw.choice([*changes, *changes, _change_bytes])
    try:
        return change(path, draw)
    except (*_DAMAGED, sqlite3.Error, zipfile.BadZipFile, struct.error):
        return _change_bytes(path, draw)  # it was damaged before


def _replace(path: Path, draw: random.Random) -> str:
    """Put something else in its place."""
    kind = draw.choice(["nothing", "empty", "fifo", "folder", "device", "dangling", "loop", "another"])
    others = sorted(each for each in path.parent.iterdir() if each.is_file() and each != path)
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "another" and others:
        shutil.copy(draw.choice(others), path)
    elif kind in ("device", "dangling", "loop"):
        path.symlink_to({"device": "/dev/zero", "dangling": "nowhere", "loop": path.name}[kind])
    return f"{path.name}: {kind} in its place"


def _change_bytes(path: Path, draw: random.Random) -> str:
    content = bytearray(path.read_bytes())
    place = draw.randrange(len(content) + 1)
    kind = draw.choice(["cut", "flip", "insert", "repeat", "zero", "number", "start"])
    if kind == "cut":
        del content[place:]
    elif kind == "flip" and content:
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif kind == "insert":
        content[place:place] = draw.choice([b"\x00" * 9, b"\xff\xfe", b"[" * 5000, b"{}", b"\xc3\x28"])
    elif kind == "repeat":
        content[place:place] = content[place : place + draw.randint(1, 200)]
    elif kind == "zero":
        content[place : place + 16] = bytes(len(content[place : place + 16]))
    elif kind == "number":
        content[place : place + 8] = _packed(draw)
    else:
        del content[: draw.randint(1, 16)]
    path.write_bytes(content)
    return f"{path.name}: {kind} at byte {place}"


def _packed(draw: random.Random) -> bytes:
    return struct.pack("<Q", draw.choice([n for n in WHOLE_NUMBERS if 0 <= n < 2**64]))


# JSON


def change_json(value: Any, draw: random.Random) -> tuple[Any, str]:
    """The value with one of its parts changed."""
    root = [value]
    places = _places(root)
    holder, key = draw.choice(places[1:] or places)
    old = holder[key]
    kind = draw.choice(["replace", "replace", "replace", "remove", "exchange", "nest", "repeat", "nudge"])
    if kind == "remove" and holder is not root:
        del holder[key]
    elif kind == "exchange":
        other, place = draw.choice(places)
        holder[key] = json.loads(json.dumps(other[place]))
    elif kind == "nest":
        for _ in range(draw.choice([1, 3, 70, 500])):
            old = [old] if draw.random() < 0.5 else {"a": old}
        holder[key] = old
    elif (kind == "repeat" and isinstance(old, list)) or (kind == "repeat" and isinstance(old, str)):
        holder[key] = old * draw.choice([2, 1000])
    elif kind == "nudge" and isinstance(old, int | float):
        holder[key] = draw.choice([old + 1, old - 1, old * 2, -old, str(old), float(old), old * 10**6])
    else:
        holder[key] = draw.choice([*VALUES, *PATTERNS, *TEMPLATES])
    return root[0], f"{kind} {key}"


def _places(root: list[Any]) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    todo: list[Any] = [root]
    while todo and len(found) < 3000:
        holder = todo.pop()
        keys = list(holder) if isinstance(holder, dict) else list(range(min(len(holder), 60)))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                todo.append(holder[key])
    return found


def _change_json_file(path: Path, draw: random.Random) -> str:
    value, what = change_json(json.loads(path.read_text(encoding="utf-8")), draw)
    path.write_text(json.dumps(value), encoding="utf-8")
    return f"{path.name}: {what}"


# safetensors


def _change_header(path: Path, draw: random.Random) -> str:
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    if draw.random() < 0.5:
        name = draw.choice(sorted(set(header) - {"__metadata__"}))
        entry, what = header[name], draw.choice(["dtype", "shape", "data_offsets", "name"])
        if what == "dtype":
            entry["dtype"] = draw.choice(DTYPES)
            if draw.random() < 0.5:  # so that the bytes fit the shape again
                size = {"8": 1, "L": 1, "6": 2, "2": 4, "4": 8}.get(entry["dtype"][-1], 4)
                start, end = entry["data_offsets"]
                entry["shape"] = [(end - start) // size]
        elif what == "name":
            header[draw.choice([name[:-1], name + "x", "lm_head.weight", *header])] = header.pop(name)
        else:
            entry[what], _ = change_json(entry[what], draw)
    else:
        header, what = change_json(header, draw)
    written = json.dumps(header).encode()
    said = len(written) if draw.random() < 0.9 else draw.choice([n for n in WHOLE_NUMBERS if 0 <= n < 2**64])
    path.write_bytes(struct.pack("<Q", said) + written + data)
    return f"{path.name}: header, {what}"


# A zip of a pickle


def _change_zip(path: Path, draw: random.Random) -> str:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    kind = draw.choice(["compressed", "pickle", "lost", "cut", "added", "renamed"])
    name = draw.choice(sorted(entries))
    pickle = next(each for each in entries if each.endswith("data.pkl"))
    if kind == "pickle":
        content = bytearray(entries[pickle])
        content[draw.randrange(len(content))] = draw.randrange(256)
        entries[pickle] = bytes(content)
    elif kind == "lost":
        del entries[name]
    elif kind == "cut":
        entries[name] = entries[name][: len(entries[name]) // 2]
    elif kind == "added":
        entries[draw.choice(["../../x", "/x", "archive/data/99", name + "x"])] = b"x" * 64
    elif kind == "renamed":
        entries["x/" + name] = entries.pop(name)
    packed = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if kind == "compressed" else zipfile.ZIP_STORED
    with zipfile.ZipFile(packed, "w", method) as archive:
        for each, content in entries.items():
            archive.writestr(each, content)
    path.write_bytes(packed.getvalue())
    return f"{path.name}: {kind} {name}"


# GGUF


def _change_gguf(path: Path, draw: random.Random) -> str:
    """Change a number behind one of the keys or names, or one of the counts at the start."""
    content = bytearray(path.read_bytes())
    end = max(content.rfind(b"output_norm.weight"), content.rfind(b"tokenizer."), 64)
    keys = [b"general.", b"llama.", b"tokenizer.ggml.", b"blk.", b"weight", b"token_embd", b"tokenizer.chat_template"]
    key = draw.choice(keys)
    found = content.find(key, draw.randrange(end))
    if found < 0 or draw.random() < 0.2:
        place = draw.choice([4, 8, 16])
    else:
        place = found - 8 if draw.random() < 0.3 else found + len(key) + draw.randrange(0, 24)
    width = draw.choice([1, 4, 8])
    content[place : place + width] = _packed(draw)[:width] if draw.random() < 0.7 else draw.randbytes(width)
    path.write_bytes(content)
    return f"{path.name}: {width} bytes at {place}, by {key.decode()}"


# Lines


def _change_lines(path: Path, draw: random.Random) -> str:
    lines = path.read_bytes().split(b"\n")
    place = draw.randrange(len(lines))
    kind = draw.choice(["lose", "double", "exchange", "odd", "word", "many", "bytes"])
    if kind == "lose":
        del lines[place]
    elif kind == "double":
        lines.insert(draw.randrange(len(lines)), lines[place])
    elif kind == "exchange":
        other = draw.randrange(len(lines))
        lines[place], lines[other] = lines[other], lines[place]
    elif kind == "odd":
        lines[place] = str(draw.choice([*VALUES, *TEMPLATES])).encode("utf-8", "replace")
    elif kind == "word":
        words = lines[place].split(b" ")
        words[draw.randrange(len(words))] = json.dumps(draw.choice(VALUES)).encode()
        lines[place] = b" ".join(words)
    elif kind == "many":
        lines[place:place] = [lines[place]] * 500
    else:
        lines[place] += draw.choice([b"\xff", b"\x00", b'"', b"\r", b"\xef\xbb\xbf", b",,,,"])
    path.write_bytes(b"\n".join(lines))
    return f"{path.name}: {kind} line {place + 1}"


def _change_template(path: Path, draw: random.Random) -> str:
    template = draw.choice(TEMPLATES)
    content = path.read_text(encoding="utf-8")
    path.write_text(template + content if draw.random() < 0.5 else template, encoding="utf-8")
    return f"{path.name}: {template[:40]}"


# SQLite


def _change_database(path: Path, draw: random.Random) -> str:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA foreign_keys = OFF")
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = draw.choice(sorted(tables))
        columns = [row[1] for row in database.execute(f"PRAGMA table_info('{table}')")]
        column = draw.choice(columns)
        kind = draw.choice(["value", "value", "value", "json", "json", "rows", "table", "column", "version"])
        row = draw.randrange(5)
        where = f"rowid IN (SELECT rowid FROM '{table}' LIMIT 1 OFFSET {row})"
        if kind == "rows":
            database.execute(f"DELETE FROM '{table}' WHERE {where}")
        elif kind == "table":
            database.execute(f"DROP TABLE '{table}'")
        elif kind == "column":
            database.execute(f"ALTER TABLE '{table}' RENAME COLUMN '{column}' TO odd")
        elif kind == "version":
            database.execute("UPDATE alembic_version SET version_num = 'v9999'")
        else:
            old = database.execute(f"SELECT \"{column}\" FROM '{table}' WHERE {where}").fetchone()
            new: Any = draw.choice([*VALUES, b"\xff\x00"])
            if kind == "json" and old and isinstance(old[0], str) and old[0][:1] in ("{", "["):
                new = json.dumps(change_json(json.loads(old[0]), draw)[0])
            if isinstance(new, dict | list):
                new = json.dumps(new)
            if isinstance(new, int) and not -(2**63) <= new < 2**63:
                new = 2**62
            database.execute(f"UPDATE OR IGNORE '{table}' SET \"{column}\" = ? WHERE {where}", (new,))
    database.close()
    return f"{path.name}: {kind} of {table}.{column}, row {row}"


BY_SUFFIX: dict[str, list[Callable[[Path, random.Random], str]]] = {
    ".json": [_change_json_file, _change_json_file, _change_json_file],
    ".safetensors": [_change_header, _change_header],
    ".bin": [_change_zip, _change_zip],
    ".gguf": [_change_gguf, _change_gguf, _change_gguf],
    ".jinja": [_change_template, _change_lines],
    ".sqlite": [_change_database, _change_database, _change_database],
    ".model": [_change_bytes],
    ".png": [_change_bytes],
}
