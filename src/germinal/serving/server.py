"""Serving at an address, until a signal ends it. Address and keys are checked before a model is loaded."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from germinal.errors import AddressError, SettingError
from germinal.serving.app import create_app
from germinal.serving.service import Service

logger = logging.getLogger("germinal.serving")

SHUTDOWN_SECONDS = 10
"""How long open answers may continue after a signal to stop."""


def serve(
    make_service: Callable[[], Service],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key_file: Path | None = None,
    on_ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve until a signal (Ctrl-C, SIGTERM) ends it.

    Args:
        make_service: Makes what is served. This may take minutes, so address and keys are checked first.
        host: Where to listen. Other machines reach the server only if this is not the loopback interface.
        port: 0 takes any free one.
        api_key_file: API keys, one on each line; clients must send one of them.
        on_ready: Called with the base URL as soon as the server accepts requests.

    Raises:
        AddressError: the address is in use, belongs to another machine, or is not allowed.
        SettingError: the key file is missing or empty.
    """
    api_keys = read_api_keys(api_key_file) if api_key_file is not None else ()
    listener = listen(host, port)
    try:
        if not api_keys and not _is_loopback(listener):
            logger.warning("listening on %s without an API key: whoever reaches this machine can use it", host)
        app = create_app(make_service(), api_keys)
        config = uvicorn.Config(
            app, log_level="warning", server_header=False, timeout_graceful_shutdown=SHUTDOWN_SECONDS
        )
        _Server(config, lambda: on_ready(url_of(listener))).run(sockets=[listener])
    finally:
        listener.close()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at the address.

    Raises:
        AddressError: there is no such host, or the address is not available.
    """
    where = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise AddressError(f"there is no such host: {error.strerror}.", where=where) from error
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        hint = "Stop the program that listens there, or choose another port with --port (0 takes any free one)."
        raise AddressError(f"cannot listen there: {error.strerror}.", where=where, hint=hint) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The base URL for OpenAI's clients."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def read_api_keys(path: Path) -> tuple[str, ...]:
    """The keys in a file, one on each line; blank lines and lines that start with # do not count.

    Raises:
        SettingError: the file cannot be read, or has no key.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingError(f"the file of API keys cannot be read: {reason}.", where=str(path)) from error
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise SettingError("there is no API key in this file.", where=str(path), hint="Write one on each line.")
    if os.name == "posix" and path.stat().st_mode & 0o077:
        logger.warning("%s can be read by other users of this machine; run: chmod 600 %s", path, path)
    return keys


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready, and returns after a signal instead of raising it again."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in previous.items():
                signal.signal(each, handler)
