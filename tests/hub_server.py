"""A hub as huggingface_hub's client sees it, on this machine: what the tests download from.

with HubServer({"org/model": Repository(files={"config.json": b"{}"})}) as hub:
    ...  # with HF_ENDPOINT=hub.url in a process of its own: the client reads it when it is imported

It answers what a download asks: a model's description, the list of its files, and the files.
"""

import dataclasses
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LFS_SUFFIXES = (".safetensors", ".bin")
POINTER_SIZE = 134  # bytes of the text that stands in git for a file kept outside of it

MODEL_ADDRESS = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)/(?P<kind>revision|tree)/(?P<revision>[^/]+)/?")
FILE_ADDRESS = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repository:
    """What the hub holds under one org/name."""

    files: dict[str, bytes]
    damaged: dict[str, bytes] = dataclasses.field(default_factory=dict)
    """Content that is sent in place of the right one."""
    token: str = ""
    """The token that reads it; empty: everybody does."""
    gated: bool = False
    """Nobody has accepted its terms."""
    broken: bool = False
    """The hub fails on it."""
    breaks_off: frozenset[str] = frozenset()
    """Files of which the first answer ends in the middle."""
    commit: str = COMMIT
    revisions: tuple[str, ...] = ("main",)


@dataclasses.dataclass(frozen=True)
class Request:
    method: str
    address: str
    """Path and query."""
    authorization: str


class HubServer:
    """Serves repositories on a free port of 127.0.0.1, and remembers what it was asked for."""

    def __init__(self, repositories: dict[str, Repository]) -> None:
        self.repositories = repositories
        self.requests: list[Request] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hub = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked_about(self, name: str) -> list[Request]:
        """The requests for one repository."""
        return [request for request in self.requests if f"/{name}/" in request.address]

    def sent_files(self, name: str) -> list[str]:
        """The files of one repository whose content was asked for, each time that it was."""
        found = [
            FILE_ADDRESS.fullmatch(unquote(request.address)) for request in self.requests if request.method == "GET"
        ]
        return sorted(match["file"] for match in found if match and match["name"] == name)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> HubServer:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        authorization = self.headers.get("Authorization", "")
        self.hub.requests.append(Request(self.command, self.path, authorization))
        address = urlsplit(self.path)
        parts = _parts(MODEL_ADDRESS, address.path) or _parts(FILE_ADDRESS, address.path)
        repository = self.hub.repositories.get(parts.get("name", ""))
        if repository is None:
            self._refuse(404, "RepoNotFound", "Repository not found")
        elif repository.broken:
            self._refuse(500, "", "Internal error")
        elif repository.token and authorization != f"Bearer {repository.token}":
            self._refuse(401, "RepoNotFound", "Repository not found")
        elif repository.gated:
            self._refuse(403, "GatedRepo", "Access to this model is restricted")
        elif parts["revision"] not in (*repository.revisions, repository.commit):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {parts['revision']}")
        elif "file" in parts:
            self._send_file(repository, parts["name"], parts["file"])
        elif parts["kind"] == "tree":
            self._send_json(_tree(repository))
        else:
            self._send_json(_description(parts["name"], repository, "blobs" in parse_qs(address.query)))

    def _send_file(self, repository: Repository, name: str, file: str) -> None:
        if file not in repository.files:
            self._refuse(404, "EntryNotFound", f"{file} does not exist")
            return
        content = repository.damaged.get(file, repository.files[file])
        headers = {
            "ETag": f'"{_digest(file, repository.files[file])}"',
            "X-Repo-Commit": repository.commit,
            "Accept-Ranges": "bytes",
        }
        part = RANGE.fullmatch(self.headers.get("Range", ""))
        if part:
            first, last = int(part[1]), min(int(part[2] or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            self._send(206, content[first : last + 1], headers)
        elif self.command == "GET" and file in repository.breaks_off and self.hub.sent_files(name).count(file) == 1:
            self._send(200, content, headers, sent_bytes=len(content) // 2)
        else:
            self._send(200, content, headers)

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._send(status, json.dumps({"error": message}).encode(), {"Content-Type": "application/json", **headers})

    def _send(self, status: int, content: bytes, headers: dict[str, str], sent_bytes: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent_bytes])
        self.close_connection = self.close_connection or sent_bytes is not None

    def log_message(self, format: str, *args: object) -> None:
        """Requests are remembered, not printed."""


def _parts(pattern: re.Pattern[str], path: str) -> dict[str, str]:
    """The named parts of an address; none when it is of another kind."""
    match = pattern.fullmatch(path)
    return {name: unquote(part) for name, part in match.groupdict().items()} if match else {}


def _description(name: str, repository: Repository, with_blobs: bool) -> dict[str, Any]:
    siblings: list[dict[str, Any]] = []
    for file, content in repository.files.items():
        sibling: dict[str, Any] = {"rfilename": file}
        if with_blobs:
            sibling |= {"size": len(content), "blobId": git_blob_id(content)}
            if file.endswith(LFS_SUFFIXES):
                sibling["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": POINTER_SIZE}
        siblings.append(sibling)
    return {"_id": "1", "id": name, "modelId": name, "sha": repository.commit, "siblings": siblings}


def _tree(repository: Repository) -> list[dict[str, Any]]:
    entries = []
    for file, content in repository.files.items():
        entry: dict[str, Any] = {"type": "file", "path": file, "size": len(content), "oid": git_blob_id(content)}
        if file.endswith(LFS_SUFFIXES):
            entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": POINTER_SIZE}
        entries.append(entry)
    return entries


def _digest(name: str, content: bytes) -> str:
    return sha256(content) if name.endswith(LFS_SUFFIXES) else git_blob_id(content)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_blob_id(content: bytes) -> str:
    """What git calls a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
