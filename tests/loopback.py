"""A server on 127.0.0.1 for downloads: plain files, repositories as the Hugging Face Hub serves them, and faults."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

CUT = "cut"
"""Fault: the connection ends in the middle of the content."""
SILENT = "silent"
"""Fault: the server stops sending in the middle of the content."""


@dataclass
class Loopback:
    """What the server serves, by path, and what it was asked for.

    Attributes:
        url: Address of the server.
        files: Path -> content.
        faults: Path -> `CUT`, `SILENT`, or a status and its headers.
        headers: Path -> further headers of the answer.
        requests: "METHOD path" of every request.
        on_request: Called at every request, before it is answered.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, object] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    on_request: Callable[[], object] = bool
    closed: threading.Event = field(default_factory=threading.Event)

    def add_repository(self, name: str, contents: dict[str, bytes], *, revision: str = "main") -> str:
        """Serve a repository of the Hub, and return its commit."""
        commit = hashlib.sha1(repr(sorted(contents.items())).encode()).hexdigest()
        entries = [
            {
                "type": "file",
                "path": path,
                "rfilename": path,
                "size": len(data),
                "oid": hashlib.sha1(data).hexdigest(),
                "blobId": hashlib.sha1(data).hexdigest(),
                **(_lfs(data) if path.endswith((".safetensors", ".bin")) else {}),
            }
            for path, data in contents.items()
        ]
        info = json.dumps({"id": name, "modelId": name, "sha": commit, "siblings": entries, "tags": []}).encode()
        for wanted in (revision, commit):
            self.files[f"/api/models/{name}/revision/{wanted}"] = info
        if revision == "main":
            self.files[f"/api/models/{name}"] = info
        self.files[f"/api/models/{name}/tree/{commit}"] = json.dumps(entries).encode()
        for path, data in contents.items():
            address = f"/{name}/resolve/{commit}/{path}"
            self.files[address] = data
            etag = hashlib.sha256(data).hexdigest()
            self.headers[address] = {"ETag": f'"{etag}"', "X-Repo-Commit": commit}
        return commit

    def add_folder(self, name: str, folder: Path, *, revision: str = "main") -> str:
        """Serve a folder that ``save_pretrained`` wrote as a repository of the Hub, and return its commit."""
        contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        return self.add_repository(name, contents, revision=revision)

    def refuse(self, path: str, status: int, **headers: str) -> None:
        """Answer requests for a path with a status and headers (``X_Error_Code`` is ``X-Error-Code``)."""
        self.faults[path] = (status, {name.replace("_", "-"): value for name, value in headers.items()})


def _lfs(data: bytes) -> dict[str, object]:
    return {
        "lfs": {
            "sha256": hashlib.sha256(data).hexdigest(),
            "oid": hashlib.sha256(data).hexdigest(),
            "size": len(data),
            "pointerSize": 130,
        }
    }


@contextlib.contextmanager
def serving() -> Iterator[Loopback]:
    """Run the server for the duration of a block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.loopback = Loopback(f"http://127.0.0.1:{server.server_address[1]}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.loopback  # type: ignore[attr-defined]
    finally:
        server.loopback.closed.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(with_content=True)

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, *, with_content: bool) -> None:
        world: Loopback = self.server.loopback  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        world.requests.append(f"{self.command} {path}")
        world.on_request()
        fault = world.faults.get(path)
        content = world.files.get(path)
        if isinstance(fault, tuple):
            self._send(fault[0], fault[1])
        elif content is None:
            self._send(404, {})
        else:
            self._send(200, {"Content-Length": str(len(content)), **world.headers.get(path, {})})
            if with_content:
                self.wfile.write(content[: len(content) // 2] if fault in (CUT, SILENT) else content)
        if fault == SILENT:
            world.closed.wait()

    def _send(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
