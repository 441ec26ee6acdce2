"""A hub as huggingface_hub's client sees it, on this machine: what the tests download from.

with HubServer({"org/model": Repository(files={"config.json": b"{}"})}) as hub:
    ...  # with HF_ENDPOINT=hub.url in a process of its own: the client reads it when it is imported

It answers what a download asks: a model's description, the list of its files, and the files. A `Fault` spoils answers,
the first of a repository that fits and is not used up:

    Repository(files=..., faults=(Fault(file="model.safetensors", cut_at=0.5), Fault(status=503, times=3)))
"""

import dataclasses
import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LFS_SUFFIXES = (".safetensors", ".bin")
PIECE_BYTES, SLOW_PIECE_BYTES = 1 << 16, 1 << 12  # the piece that is on the way to a killed client counts as sent
ALWAYS = 1 << 30
POINTER_SIZE = 134  # bytes of the text that stands in git for a file kept outside of it

MODEL_ADDRESS = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)/(?P<kind>revision|tree)/(?P<revision>[^/]+)/?")
FILE_ADDRESS = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong with an answer."""

    file: str = ""
    """The file asked for; empty: the description."""
    times: int = 1
    """How many answers it spoils."""
    status: int = 0
    """Answered in place of the content, with `code` and `headers`."""
    code: str = ""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    content: bytes | None = None
    """Sent in place of the right content, or description."""
    cut_at: float = 1.0
    """The share of the file after which the connection breaks."""
    stalls_at: float = 1.0
    """The share of the file after which nothing comes any more."""
    ignores_ranges: bool = False
    """Sends all of it, whatever part was asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repository:
    """What the hub holds under one org/name."""

    files: dict[str, bytes]
    faults: tuple[Fault, ...] = ()
    token: str = ""
    """The token that reads it; empty: everybody does."""
    gated: bool = False
    """Nobody has accepted its terms: the description is public, the files are not."""
    commit: str = COMMIT
    revisions: tuple[str, ...] = ("main",)
    later: "Repository | None" = None
    """What the revisions mean once they were asked for."""
    card: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The front matter of its README.md."""
    is_plain_mirror: bool = False
    """The description holds names only, and ETags are no digests."""
    file_host: str = ""
    """Another server, which the files are fetched from."""
    bytes_per_second: float = 0.0
    """Of one answer; 0: as fast as it can."""


@dataclasses.dataclass(frozen=True)
class Request:
    method: str
    address: str
    """Path and query."""
    authorization: str
    start: int
    """The first byte asked for."""


class HubServer:
    """Serves repositories on a free port of 127.0.0.1, and remembers what it was asked for."""

    def __init__(self, repositories: dict[str, Repository]) -> None:
        self.repositories = repositories
        self.requests: list[Request] = []
        self.sent_bytes: dict[str, int] = dict.fromkeys(repositories, 0)
        """Of files, by org/name."""
        self.spoilt: dict[tuple[str, int], int] = {}
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.stopping = threading.Event()

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked_about(self, name: str) -> list[Request]:
        """The requests for one repository."""
        return [request for request in self.requests if f"/{name}/" in request.address]

    def fault(self, name: str, file: str) -> Fault | None:
        """What goes wrong with the next answer."""
        with self.lock:
            for fault in self.repositories[name].faults:
                used = self.spoilt.get((name, id(fault)), 0)
                if fault.file == file and used < fault.times:
                    self.spoilt[name, id(fault)] = used + 1
                    return fault
        return None

    def move(self, name: str) -> None:
        """The revisions mean something else from now on."""
        with self.lock:
            repository = self.repositories[name]
            if repository.later:
                past = dataclasses.replace(repository, revisions=(), later=None)
                self.repositories[f"{name}@{repository.commit}"] = past
                self.repositories[name] = repository.later

    def clear_faults(self, name: str) -> None:
        """From now on nothing goes wrong with a repository's answers."""
        with self.lock:
            self.repositories[name] = dataclasses.replace(self.repositories[name], faults=(), bytes_per_second=0.0)

    def sent_files(self, name: str) -> list[str]:
        """The files of one repository whose content was asked for, each time that it was."""
        found = [
            FILE_ADDRESS.fullmatch(unquote(request.address)) for request in self.requests if request.method == "GET"
        ]
        return sorted(match["file"] for match in found if match and match["name"] == name)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients are killed, and go away in the middle of an answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> HubServer:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        authorization = self.headers.get("Authorization", "")
        part = RANGE.fullmatch(self.headers.get("Range", ""))
        start = int(part[1]) if part else 0
        self.hub.requests.append(Request(self.command, self.path, authorization, start))
        address = urlsplit(self.path)
        parts = _parts(MODEL_ADDRESS, address.path) or _parts(FILE_ADDRESS, address.path)
        name, file = parts.get("name", ""), parts.get("file", "")
        repository = self.hub.repositories.get(f"{name}@{parts.get('revision')}") or self.hub.repositories.get(name)
        if repository is None:
            return self._refuse(404, "RepoNotFound", "Repository not found")
        fault = None if self.command == "HEAD" else self.hub.fault(name, file)
        if fault and fault.status:
            return self._refuse(fault.status, fault.code, "A fault", fault.headers)
        if repository.token and authorization != f"Bearer {repository.token}":
            return self._refuse(401, "RepoNotFound", "Repository not found")
        if parts["revision"] not in (*repository.revisions, repository.commit):
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {parts['revision']}")
        if file and repository.gated:
            return self._refuse(403, "GatedRepo", "Access to this model is restricted")
        if not file and fault and fault.content is not None:
            return self._send(200, fault.content, {"Content-Type": "application/json"})
        if file:
            return self._send_file(repository, name, file, start, fault or Fault())
        if parts["kind"] == "tree":
            return self._send_json(_tree(repository))
        self._send_json(_description(name, repository, "blobs" in parse_qs(address.query)))
        self.hub.move(name)

    def _send_file(self, repository: Repository, name: str, file: str, start: int, fault: Fault) -> None:
        if file not in repository.files:
            return self._refuse(404, "EntryNotFound", f"{file} does not exist")
        right = repository.files[file]
        content = right if fault.content is None else fault.content
        etag = "etag-1" if repository.is_plain_mirror else _digest(file, right)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes"}
        if repository.file_host:
            headers |= {"X-Linked-Size": str(len(right)), "X-Linked-Etag": f'"{etag}"'}
            return self._send(302, b"", {**headers, "Location": f"{repository.file_host}{self.path}"})
        if fault.ignores_ranges:
            start = 0
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(206 if start else 200)
        for header, value in {**headers, "Content-Length": str(len(content) - start)}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send_pieces(name, memoryview(content), start, repository.bytes_per_second, fault)

    def _send_pieces(self, name: str, content: memoryview, start: int, bytes_per_second: float, fault: Fault) -> None:
        """Send what is left of a file, as far as the fault lets it come; the client may go away."""
        length = SLOW_PIECE_BYTES if bytes_per_second else PIECE_BYTES
        end = int(len(content) * min(fault.cut_at, fault.stalls_at))
        try:
            while start < end and not self.hub.stopping.is_set():
                piece = content[start : min(start + length, end)]
                self.wfile.write(piece)
                start += len(piece)
                with self.hub.lock:
                    self.hub.sent_bytes[name] += len(piece)
                if bytes_per_second:
                    time.sleep(len(piece) / bytes_per_second)
        except ConnectionError:
            self.close_connection = True
        if fault.stalls_at < 1:
            self.hub.stopping.wait(60)
        self.close_connection = self.close_connection or end < len(content)

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        self._send(status, json.dumps({"error": message}).encode(), {"Content-Type": "application/json", **headers})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

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
        if with_blobs and not repository.is_plain_mirror:
            sibling |= {"size": len(content), "blobId": git_blob_id(content)}
            if file.endswith(LFS_SUFFIXES):
                sibling["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": POINTER_SIZE}
        siblings.append(sibling)
    described = {"_id": "1", "id": name, "modelId": name, "sha": repository.commit, "siblings": siblings}
    return {**described, "cardData": repository.card} if repository.card else described


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
