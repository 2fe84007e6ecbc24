"""Listening: addresses, keys, readiness, and an end in order on a signal."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from servers import HELLO

from germinal.errors import AddressError, SettingError
from germinal.serving import serve
from germinal.serving.server import listen, read_api_keys, url_of


def never() -> None:
    raise AssertionError("loaded before address and keys were checked")


def test_an_address_in_use_is_told_before_anything_is_loaded() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=f"127.0.0.1:{port}: .*in use.*--port"):
            serve(never, port=port)


def test_addresses_that_are_not_ours() -> None:
    with pytest.raises(AddressError, match="no such host"):
        serve(never, host="no.such.host.invalid")
    with pytest.raises(AddressError, match="cannot listen there"):
        serve(never, host="203.0.113.7", port=0)


def test_urls() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    if socket.has_ipv6:
        try:
            with listen("::1", 0) as listener:
                assert url_of(listener).startswith("http://[::1]:")
        except AddressError:
            pytest.skip("this machine has no IPv6 loopback")


def test_key_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys"
    path.write_text("# ours\nfirst\n\n  second  \n")
    path.chmod(0o600)
    with caplog.at_level(logging.WARNING):
        assert read_api_keys(path) == ("first", "second")
    assert not caplog.records
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        read_api_keys(path)
    assert "chmod 600" in caplog.text
    path.write_text("# none\n\n")
    for bad in (path, tmp_path / "absent", tmp_path):
        with pytest.raises(SettingError, match=str(bad)):
            serve(never, port=0, api_key_file=bad)


PROGRAM = """
import sys
import germinal
from germinal.serving import ModelService, serve
service = ModelService(germinal.load(sys.argv[1]), name="tiny")
serve(lambda: service, port=0, on_ready=lambda url: print(url, flush=True))
print("ended", flush=True)
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order_after_the_answers_under_way(
    make_llama_folder: Callable[..., Path], ending: signal.Signals
) -> None:
    folder = make_llama_folder(max_position_embeddings=1024)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        request = {"model": "tiny", "messages": HELLO, "max_tokens": 300, "stream": True}
        request["logit_bias"] = {"0": -100, "1": -100, "2": -100}
        with httpx.stream("POST", f"{url}/chat/completions", json=request, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            process.send_signal(ending)
            assert "[DONE]" in "".join(lines), "the answer under way was cut"
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (out, process.returncode) == ("ended\n", 0)
    assert "Traceback" not in err
