"""A hub as huggingface_hub's client sees it, on this machine: what the tests download from.

with HubServer({"org/model": Repository(files={"config.json": b"{}"})}) as hub:
    ...  # with HF_ENDPOINT=hub.url in a process of its own: the client reads it when it is imported

It answers what a download asks: a model's description, the list of its files, and the files. A `Fault` spoils answers,
the first of a repository that fits and is not used up:

    Repository(files=..., faults=(Fault(file="model.safetensors", cut_at=0.5), Fault(status=503, times=3)))
"""

import dataclasses
import hashlib
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from tests.http_server import Answer, HttpServer, Request

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


class HubServer(HttpServer):
    """Serves repositories, and remembers what it was asked for."""

    def __init__(self, repositories: dict[str, Repository]) -> None:
        super().__init__()
        self.repositories = repositories
        self.sent_bytes: dict[str, int] = dict.fromkeys(repositories, 0)
        """Of files, by org/name."""
        self.spoilt: dict[tuple[str, int], int] = {}

    def asked_about(self, name: str) -> list[Request]:
        """The requests for one repository."""
        return [request for request in self.requests if f"/{name}/" in request.address]

    def sent_files(self, name: str) -> list[str]:
        """The files of one repository whose content was asked for, each time that it was."""
        asked = [_parts(FILE_ADDRESS, request.path) for request in self.requests if request.method == "GET"]
        return sorted(parts["file"] for parts in asked if parts.get("name") == name)

    def clear_faults(self, name: str) -> None:
        """From now on nothing goes wrong with a repository's answers."""
        with self.lock:
            self.repositories[name] = dataclasses.replace(self.repositories[name], faults=(), bytes_per_second=0.0)

    def answer(self, request: Request) -> Answer:
        parts = _parts(MODEL_ADDRESS, request.path) or _parts(FILE_ADDRESS, request.path)
        name, file = parts.get("name", ""), parts.get("file", "")
        repository = self.repositories.get(f"{name}@{parts.get('revision')}") or self.repositories.get(name)
        if repository is None:
            return _refusal(404, "RepoNotFound", "Repository not found")
        fault = None if request.method == "HEAD" else self._fault(name, file, _is_bounded(request))
        if fault and fault.status:
            return _refusal(fault.status, fault.code, "A fault", fault.headers)
        if repository.token and request.authorization != f"Bearer {repository.token}":
            return _refusal(401, "RepoNotFound", "Repository not found")
        if parts["revision"] not in (*repository.revisions, repository.commit):
            return _refusal(404, "RevisionNotFound", f"Invalid rev id: {parts['revision']}")
        if file and repository.gated:
            return _refusal(403, "GatedRepo", "Access to this model is restricted")
        if file and file not in repository.files:
            return _refusal(404, "EntryNotFound", f"{file} does not exist")
        if file:
            return self._file(repository, name, file, request, fault or Fault())
        if fault and fault.content is not None:
            return Answer(body=fault.content, headers={"Content-Type": "application/json"})
        if parts["kind"] == "tree":
            return Answer.of_json(_tree(repository))
        self._move(name)
        return Answer.of_json(description(name, repository, "blobs" in request.query))

    def _fault(self, name: str, file: str, is_bounded: bool) -> Fault | None:
        """What goes wrong with the next answer; the beginning of a file, asked for alone, is refused or right."""
        with self.lock:
            for fault in self.repositories[name].faults:
                used = self.spoilt.get((name, id(fault)), 0)
                if fault.file == file and used < fault.times and (fault.status or not is_bounded):
                    self.spoilt[name, id(fault)] = used + 1
                    return fault
        return None

    def _move(self, name: str) -> None:
        """The revisions mean something else from now on."""
        with self.lock:
            repository = self.repositories[name]
            if repository.later:
                past = dataclasses.replace(repository, revisions=(), later=None)
                self.repositories[f"{name}@{repository.commit}"] = past
                self.repositories[name] = repository.later

    def _file(self, repository: Repository, name: str, file: str, request: Request, fault: Fault) -> Answer:
        right = repository.files[file]
        content = right if fault.content is None else fault.content
        etag = "etag-1" if repository.is_plain_mirror else _digest(file, right)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes"}
        if repository.file_host:
            headers |= {"X-Linked-Size": str(len(right)), "X-Linked-Etag": f'"{etag}"'}
            return Answer(status=302, headers={**headers, "Location": f"{repository.file_host}{request.address}"})
        part = RANGE.fullmatch(request.headers.get("range", ""))
        start = int(part[1]) if part and not fault.ignores_ranges else 0
        end = min(len(content), int(part[2]) + 1) if part and part[2] and not fault.ignores_ranges else len(content)
        is_part = start > 0 or end < len(content)
        if is_part:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        headers["Content-Length"] = str(end - start)
        pieces = self._pieces(name, content[:end], start, repository.bytes_per_second, fault)
        return Answer(status=206 if is_part else 200, headers=headers, body=pieces)

    def _pieces(self, name: str, content: bytes, start: int, rate: float, fault: Fault) -> Iterator[bytes]:
        """What is left of a file, as far as the fault lets it come; counted as sent once it is."""
        length = SLOW_PIECE_BYTES if rate else PIECE_BYTES
        end = int(len(content) * min(fault.cut_at, fault.stalls_at))
        while start < end and not self.closing.is_set():
            piece = content[start : min(start + length, end)]
            yield piece
            start += len(piece)
            with self.lock:
                self.sent_bytes[name] += len(piece)
            if rate:
                time.sleep(len(piece) / rate)
        if fault.stalls_at < 1:
            self.closing.wait(60)


def _is_bounded(request: Request) -> bool:
    part = RANGE.fullmatch(request.headers.get("range", ""))
    return bool(part and part[2])


def _refusal(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Answer:
    answer = Answer.of_json({"error": message}, status)
    named = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
    return dataclasses.replace(answer, headers={**answer.headers, **named})


def _parts(pattern: re.Pattern[str], path: str) -> dict[str, str]:
    """The named parts of an address; none when it is of another kind."""
    match = pattern.fullmatch(path)
    return {name: unquote(part) for name, part in match.groupdict().items()} if match else {}


def description(name: str, repository: Repository, with_blobs: bool) -> dict[str, Any]:
    """What the hub says of a repository."""
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
