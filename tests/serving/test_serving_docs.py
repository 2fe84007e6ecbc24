"""The page about serving does what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from servers import running

import germinal
from germinal.serving import ModelService
from germinal.serving.model_service import MAX_ANSWERS, MAX_NEW_TOKENS, NUM_SLOTS
from germinal.serving.requests import _IGNORED, ChatRequest

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_its_program_runs(make_llama_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    service = ModelService(germinal.load(make_llama_folder()), name="smollm2-135m-instruct")
    with running(service) as url:
        exec(program.replace("127.0.0.1:8000", urlsplit(url).netloc), {})
    assert len(capsys.readouterr().out) > 20


def test_its_table_names_every_field() -> None:
    named = set(re.findall(r"`(\w+)[`.]", PAGE))
    assert set(ChatRequest.model_fields) | set(_IGNORED) <= named


def test_its_numbers_are_the_codes() -> None:
    assert (NUM_SLOTS, MAX_ANSWERS, MAX_NEW_TOKENS) == (16, 256, 1024)
    assert "Sixteen answers" in PAGE
    assert "from 256 on" in PAGE
    assert "Left out: 1024" in PAGE
