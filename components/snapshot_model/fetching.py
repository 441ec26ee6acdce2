"""Fetch a source's files into a folder, each from where it stopped, and make sure that they are what the source says.

The folder may be filled by others at the same time: bytes are written where they belong and nowhere else, and a file
that was taken away meanwhile is noticed (FileNotFoundError) before more than a MiB is written to it.
"""

import contextlib
import dataclasses
import errno
import hashlib
import os
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from components.shared import progress
from components.shared.calls import OutOfTime
from components.shared.problems import Problems, problem
from components.shared.source_errors import VOLUME_AWAY
from components.shared.storage import FILE_MODE, READ_BYTES, flush, sha256_of_file
from components.snapshot_model import model_source
from components.snapshot_model.meter import Meter
from components.snapshot_model.model_source import FileInfo, RetryPolicy, Source, Unreachable

FILES_AT_ONCE = 8  # as many as huggingface_hub's own client
CHECK_BYTES = 1 << 20  # written between two checks that the file is still there
MIN_BYTES = 1 << 20  # that count as progress, or a twentieth of a smaller file: a source that trickles is given up, too
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
GIT_DIGITS, MD5_DIGITS = 40, 32

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fetched:
    """Files that are there and right."""

    files: dict[str, FileInfo]
    """With their sha256."""
    fetched_bytes: int
    """Received; the rest was there before."""


class _Stopped(Exception):
    """Another file failed; what has arrived of this one stays."""


def fetch_files(folder: Path, expected: dict[str, FileInfo], source: Source) -> Fetched:
    """Fetch files into a folder that may hold some of them, whole or in part.

    What was there before counts where a digest can show it to be right. Other files are written whole once more, over
    what is there. Raises Problems when one of them cannot be had, is not what the source says, or cannot be written,
    and FileNotFoundError when the folder is taken away meanwhile."""
    missing = sum(max(0, info.size - _usable(folder / name, info)) for name, info in expected.items())
    with Meter("fetching", missing) as arrived, Meter("verifying", total_bytes(expected)) as verified:

        def fetch(name: str, stopped: threading.Event) -> FileInfo:
            file = _File(folder / name, expected[name], source, stopped, arrived, verified)
            return FileInfo(size=expected[name].size, digest=file.fetch())

        found = _at_once(list(expected), fetch)
    return Fetched(files=found, fetched_bytes=arrived.bytes)


def fetch_beginnings(folder: Path, expected: dict[str, FileInfo], count: int, source: Source) -> int:
    """Have the first bytes of files there, which `fetch_files` resumes; gives how many were received.

    Raises as `fetch_files`, but for what is not as the source says.
    """
    short = {name: dataclasses.replace(info, size=min(info.size, count)) for name, info in expected.items()}
    missing = {name: info for name, info in short.items() if size_of(folder / name) < info.size}

    def read(name: str, offset: int, end: int) -> Generator[bytes, None, None]:
        with contextlib.closing(source.read(name, offset, end)) as pieces:
            for piece in pieces:  # a source may send more
                yield piece[: end - offset]
                offset += len(piece)
                if offset >= end:
                    return

    bounded = dataclasses.replace(source, read=read)
    with Meter("fetching", total_bytes(missing)) as arrived:

        def fetch(name: str, stopped: threading.Event) -> None:
            _File(folder / name, missing[name], bounded, stopped, arrived, arrived).receive()

        _at_once(list(missing), fetch)
    return arrived.bytes


def _at_once(names: list[str], fetch: Callable[[str, threading.Event], Result]) -> dict[str, Result]:
    """Fetch several files; when one fails, the others stop. Raises its error."""
    stopped = threading.Event()
    first: list[BaseException] = []
    found: dict[str, Result] = {}

    def fetch_one(name: str) -> None:
        try:
            found[name] = fetch(name, stopped)
        except _Stopped:
            pass
        except BaseException as error:
            first.append(error)
            stopped.set()

    with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
        try:
            list(threads.map(fetch_one, names))
        except BaseException:  # the process is being ended
            stopped.set()
            raise
    if first:
        raise first[0]
    return {name: found[name] for name in names}


def size_of(path: Path) -> int:
    """Bytes of a file; 0 when it is not there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return path.stat().st_size
    return 0


def total_bytes(files: dict[str, FileInfo]) -> int:
    return sum(info.size for info in files.values())


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a volume refuses into a problem. Raises FileNotFoundError when the file or its folder was taken away
    meanwhile, and Problems otherwise."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if isinstance(error, FileExistsError) and not os.path.lexists(error.filename):
            raise FileNotFoundError(error.filename) from None  # there when it was to be made, and gone since
        is_full = error.errno in FULL
        raise problem(
            "the volume is full" if is_full else f"the volume does not take it: {error.strerror}",
            where=str(path),
            rule="a snapshot is written to the workspace",
            remedy=f"{'make room or enlarge the volume' if is_full else 'make it writable'}, then run again: what has "
            "arrived stays",
            may_pass=is_full or error.errno in VOLUME_AWAY,
        ) from None


class _File:
    """One file that is being fetched."""

    def __init__(
        self, path: Path, info: FileInfo, source: Source, stopped: threading.Event, arrived: Meter, verified: Meter
    ) -> None:
        self.path, self.info, self.source = path, info, source
        self.stopped, self.arrived, self.verified = stopped, arrived, verified
        self.offset = 0  # the first byte that this attempt has not written

    def fetch(self) -> str:
        """Have the whole file there and right; gives its sha256."""
        in_parts = self.receive()
        while True:
            sha256 = sha256_of_file(self.path, self.verified.add)
            if self._is_right(sha256):
                with writing(self.path):
                    flush(self.path)
                return sha256
            size = size_of(self.path)
            self.path.unlink()
            self.offset = 0
            if not in_parts:
                raise problem(
                    f"{self.path.name} arrived damaged: {size} bytes, sha256 {sha256[:12]}…",
                    where=self.source.where,
                    rule=f"the source says {self.info.size} bytes and digest {self.info.digest}",
                    remedy=self.source.if_damaged,
                    may_pass=True,
                )
            progress.log(f"{self.path.name} is damaged: it is fetched again from its beginning")
            self.receive()
            in_parts = False

    def _is_right(self, sha256: str) -> bool:
        expected = self.info.digest
        if len(expected) == GIT_DIGITS:
            return _git_blob_id(self.path) == expected
        if len(expected) == MD5_DIGITS:
            return _digest(self.path, hashlib.md5(usedforsecurity=False)) == expected
        return expected in ("", sha256)

    def receive(self) -> bool:
        """Read until the file has its size; says whether that took more than one answer."""
        answers = 0
        has_prefix = self._usable() > 0
        retry = RetryPolicy(model_source.DOWNLOAD_TIMEOUT_SECONDS, self.stopped)
        if size_of(self.path) > self.info.size:
            self.path.unlink()
        while (offset := self._usable()) < self.info.size or not self.path.exists():
            answers += 1
            try:
                self._receive(offset, retry)
                if self._usable() < self.info.size:
                    raise Unreachable(f"the answer ended at byte {self._usable()} of {self.info.size}")
            except OutOfTime:
                self._wait(retry, Unreachable(f"it trickles, and is at byte {self.offset} of {self.info.size}"))
            except Unreachable as error:
                self._wait(retry, error)
        return has_prefix or answers > 1

    def _usable(self) -> int:
        return max(_usable(self.path, self.info), min(self.offset, size_of(self.path)))

    def _wait(self, retry: RetryPolicy, error: Unreachable) -> None:
        try:
            retry.wait(error, self.path.name)
        except Unreachable:
            raise problem(
                f"{self.path.name} cannot be fetched: {error}",
                where=self.source.where,
                rule=f"a download makes progress within {model_source.DOWNLOAD_TIMEOUT_SECONDS:.0f} s",
                remedy="run again later; what has arrived stays",
                may_pass=True,
            ) from None
        if self.stopped.is_set():
            raise _Stopped

    def _receive(self, offset: int, retry: RetryPolicy) -> None:
        """Write what one answer brings."""
        with writing(self.path):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE)
        marked = checked = offset
        least = min(MIN_BYTES, self.info.size // 20)
        answer = retry.deadline.each(self.source.read(self.path.name, offset, self.info.size))
        with os.fdopen(descriptor), contextlib.closing(answer) as pieces:
            with contextlib.suppress(PermissionError):  # another pod made it, and with this mode
                os.fchmod(descriptor, FILE_MODE)
            for piece in pieces:
                if self.stopped.is_set():
                    raise _Stopped
                if offset + len(piece) > self.info.size:
                    raise self._too_long()
                with writing(self.path):
                    _write(descriptor, piece, offset)
                offset += len(piece)
                self.offset = offset
                self.arrived.add(len(piece))
                if offset - checked >= CHECK_BYTES:
                    checked = offset
                    _check_still_there(self.path, descriptor)
                if offset - marked > least:
                    marked = offset
                    retry.renew()

    def _too_long(self) -> Problems:
        return problem(
            f"{self.path.name} has another length: more than {self.info.size} bytes",
            where=self.source.where,
            rule=f"the source says that it has {self.info.size} bytes",
            remedy=self.source.if_damaged,
            may_pass=True,
        )


def _usable(path: Path, info: FileInfo) -> int:
    """Bytes of an earlier attempt that need not be fetched again."""
    return size_of(path) if info.digest else 0


def _git_blob_id(path: Path) -> str:
    """What git calls a file's content: a hash over a header and the content."""
    return _digest(path, hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False))


def _digest(path: Path, digest: "hashlib._Hash") -> str:
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _write(descriptor: int, piece: bytes, offset: int) -> None:
    rest = memoryview(piece)
    while rest:
        count = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[count:], offset + count


def _check_still_there(path: Path, descriptor: int) -> None:
    """Somebody else may have published the folder; nobody writes to a published file."""
    if not os.path.samestat(path.stat(), os.fstat(descriptor)):
        raise FileNotFoundError(path)
