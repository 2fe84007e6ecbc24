"""A small server that speaks as much of the Hugging Face hub's interface as huggingface_hub needs to fetch a model."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server serves, and what it was asked.

    Attributes:
        repositories: Folder of each repository.
        gated: Repositories whose licence was not accepted.
        wrong_hashes: Files whose SHA-256 the hub states wrongly.
        cut: Files of which only the first bytes are sent, once each.
        requests: Method and path of every request.
    """

    repositories: dict[str, Path]
    gated: set[str] = field(default_factory=set)
    wrong_hashes: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def downloads(self) -> list[str]:
        return [line.rsplit("/", 1)[-1] for line in self.requests if line.startswith("GET") and "/resolve/" in line]


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            if path.startswith("/api/models/"):
                repository, _, revision = path.removeprefix("/api/models/").partition("/revision/")
                self.describe(repository, revision or "main")
            else:
                repository, _, rest = path.lstrip("/").partition("/resolve/")
                self.send_file(repository, rest.partition("/")[2], body)

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def describe(self, repository: str, revision: str) -> None:
            if repository in hub.gated:
                return self.refuse(403, "GatedRepo")
            if repository not in hub.repositories:
                return self.refuse(404, "RepoNotFound")
            if revision not in ("main", "v1", COMMIT):
                return self.refuse(404, "RevisionNotFound")
            folder = hub.repositories[repository]
            siblings = []
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                name = file.relative_to(folder).as_posix()
                entry: dict[str, object] = {"rfilename": name, "size": file.stat().st_size, "blobId": "0" * 40}
                if file.suffix in (".safetensors", ".bin", ".gguf"):
                    digest = hashlib.sha256(file.read_bytes()).hexdigest()
                    digest = "f" * 64 if name in hub.wrong_hashes else digest
                    entry["lfs"] = {"sha256": digest, "size": file.stat().st_size, "pointerSize": 130}
                siblings.append(entry)
            return self.send(json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode(), {}, True)

        def send_file(self, repository: str, name: str, body: bool) -> None:
            file = hub.repositories.get(repository, Path("/nowhere")) / name
            if not file.is_file():
                return self.refuse(404, "EntryNotFound")
            data = file.read_bytes()
            tag = hashlib.sha256(data).hexdigest()
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{tag}"', "Accept-Ranges": "bytes"}
            return self.send(data, headers, body, hub.cut.pop(name, None) if body else None)

        def send(self, data: bytes, headers: dict[str, str], body: bool, cut: int | None = None) -> None:
            start = 0
            if body and (wanted := self.headers.get("Range")):
                start = int(wanted.removeprefix("bytes=").split("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.send_response(206 if start else 200)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if body:
                self.wfile.write(data[start:] if cut is None else data[start:cut])
            if cut is not None:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
