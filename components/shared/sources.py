"""Files behind an address: a path, `file://`, `https://` or `s3://`; one file, a folder, or a glob.

    /mnt/osft/qa.csv    /mnt/osft/rounds    s3://bucket/rounds/2026-*/qa.parquet    https://host/qa.csv.gz

For `s3://` the environment says where and who: AWS_S3_ENDPOINT (any object store that speaks S3; AWS without it),
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION, as a data connection of OpenShift AI sets them. An
address without a bucket, `s3:///qa.csv`, means the bucket AWS_S3_BUCKET.
"""

import dataclasses
import functools
import glob
import os
import re
import urllib.parse
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

from components.shared import object_store, reach
from components.shared.calls import Deadline, OutOfTime, TooLong, call_again, join
from components.shared.object_store import CONNECT_SECONDS, PIECE_BYTES, READ_SECONDS
from components.shared.problems import Problems, problem, quote
from components.shared.source_errors import ATTEMPTS, HTTP, RULE, S3, broken, is_of, reading, without_credentials

Answer = TypeVar("Answer")

MIN_BYTES = 1 << 20  # that count as progress: a server that trickles is given up, too
MAX_BYTES = 1 << 36  # of one file; more is a server that never ends
MAX_BYTES_IN_MEMORY = 1 << 31
MAX_FILES = 10_000  # of a folder or glob; more of them is a wrong address, and a list that takes minutes
GLOB = re.compile(r"[*?\[]")
LIST_SECONDS = 120  # for a whole list
SECONDS_BETWEEN_ATTEMPTS = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """One file that can be read."""

    address: str
    """To show: without the credentials that an address may hold."""
    name: str
    """Relative to the folder or the fixed part of the glob it was found in; the bare name of a single file."""
    size: int | None
    """Bytes; None where the server does not say."""
    local: Path | None
    """Where it lies, if on this machine."""
    filesystem: Any = dataclasses.field(repr=False)
    """Of fsspec."""
    path: str = dataclasses.field(repr=False)
    """In the filesystem."""

    def pieces(self, start: int = 0) -> Generator[bytes, None, None]:
        """The content from a byte on, in pieces, for as long as it trickles. Raises Problems when it cannot be read, or
        not to its end."""
        with reading(self.address, self.filesystem):
            if is_of(self.filesystem, S3):
                yield from object_store.content(self.filesystem, self.path, start, self.size, self.address)
                return
            with self.filesystem.open(self.path, "rb", block_size=0) as file:
                if is_of(self.filesystem, HTTP):
                    _check_encoding(file.r.headers.get("Content-Encoding", ""), self.address)
                    if file.r.status != 200:
                        raise broken(self.address, f"the server answers {file.r.status}, not with the whole file")
                if start:
                    file.seek(start)
                while piece := file.read(PIECE_BYTES):
                    yield piece

    def copy(self, target: Path) -> None:
        """Copy the content into a file, trying again when the connection breaks. Raises Problems when it cannot be
        read, or not to its end."""

        def attempt() -> None:
            with target.open("wb") as file:
                for piece in self._in_time():
                    file.write(piece)
                    if file.tell() > MAX_BYTES:
                        raise _too_long(self.address, MAX_BYTES)
                if self.size not in (None, file.tell()):
                    raise broken(self.address, f"it ended after {file.tell()} of {self.size} bytes")

        _retry(attempt)

    def _in_time(self) -> Iterator[bytes]:
        """The pieces, unless they come too slowly."""
        deadline, count = Deadline(CONNECT_SECONDS + READ_SECONDS), 0
        try:
            for piece in deadline.each(self.pieces()):
                count += len(piece)
                if count >= MIN_BYTES:
                    deadline.renew()
                    count = 0
                yield piece
        except OutOfTime:
            raise broken(self.address, f"less than {MIN_BYTES} bytes in {deadline.seconds} s") from None


def find_files(address: str) -> list[File]:
    """The files behind an address, sorted by name: one file, all below a folder, or those that a glob matches.

    Names that begin with a dot or an underscore are skipped, markers and half-written files, unless a part of the glob
    begins with it, too. Raises Problems when there is none, one is a link to nothing or to a folder, the place cannot
    be reached, or a step reads nothing from there (components/shared/reach.py)."""
    reach.check_address(address)
    shown = without_credentials(address)
    filesystem, path = _open_filesystem(address, shown)

    def attempt() -> list[File]:
        with reading(shown, filesystem):
            return _list(filesystem, path, shown)

    def attempt_in_time() -> list[File]:
        try:
            return Deadline(LIST_SECONDS).call(attempt)
        except OutOfTime:
            raise broken(shown, f"there is no whole list in {LIST_SECONDS} s") from None

    files = _retry(attempt if is_of(filesystem, ("file",)) else attempt_in_time)
    for file in files:
        if file.local:
            reach.check_path(file.local)
    return files


def find_file(address: str) -> File:
    """The one file behind an address. Raises Problems when it cannot be found, or there is more than one."""
    return only_file(find_files(address), address)


def only_file(files: list[File], address: str) -> File:
    """The one of the files behind an address. Raises Problems when there are more."""
    if len(files) > 1:
        raise problem(
            f"this is a folder or a glob of {len(files)} files",
            where=without_credentials(address),
            rule="one file is read here",
            remedy="name the file in it",
        )
    return files[0]


def read_bytes(address: str) -> bytes:
    """The content of the one file behind an address. Raises Problems when it cannot be read, or there is more than
    one."""
    file = find_file(address)

    def attempt() -> bytes:
        try:
            return join(file._in_time(), MAX_BYTES_IN_MEMORY)
        except TooLong:
            raise _too_long(file.address, MAX_BYTES_IN_MEMORY) from None

    return _retry(attempt)


def _retry(attempt: Callable[[], Answer]) -> Answer:
    return call_again(attempt, [number * SECONDS_BETWEEN_ATTEMPTS for number in range(1, ATTEMPTS)])


def _open_filesystem(address: str, shown: str) -> tuple[Any, str]:
    """The filesystem of an address, and the path in it."""
    import fsspec

    scheme, separator, path = address.partition("://")
    scheme = scheme.lower() if separator else "file"
    if scheme in S3:
        return object_store.open_store(), object_store.in_a_bucket(path, shown)
    if scheme in HTTP:
        import aiohttp

        seconds = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        # The environment names proxies. What a server packs stays packed: who reads a table unpacks it within bounds.
        client = {"timeout": seconds, "trust_env": True, "auto_decompress": False}
        filesystem = fsspec.filesystem(
            scheme,
            client_kwargs=client,
            get_client=functools.partial(reach.open_session, shown),
            headers={"Accept-Encoding": "identity"},
            skip_instance_cache=True,
        )
        return filesystem, address
    if scheme != "file" or not address.strip():
        raise problem(
            f"unknown kind of address {quote(scheme)}" if separator else "the address is empty",
            where=shown or "an empty address",
            rule=RULE,
            remedy="name the file",
        )
    path = str(Path(urllib.parse.unquote(path) if separator else address).absolute())
    reach.check_path(path.replace("\0", ""))  # which no path can have: the library says so
    return fsspec.filesystem("file"), path


def _list(filesystem: Any, path: str, shown: str) -> list[File]:
    if is_of(filesystem, HTTP):
        # The server is asked when the file is read; many refuse anything but a GET.
        name = urllib.parse.unquote(urllib.parse.urlsplit(path).path.rpartition("/")[2])
        return [File(address=shown, name=name, size=None, local=None, filesystem=filesystem, path=path)]
    base = path.rstrip("/")
    try:
        info = _info(filesystem, base)
    except FileNotFoundError:
        if not GLOB.search(path):
            raise
        base = path[: GLOB.search(path).start()].rpartition("/")[0]  # type: ignore[union-attr]
        entries = _matched(filesystem, path, base)
        none = "the glob matches no file"
    else:
        if info["type"] != "directory":
            if info["type"] != "file":
                raise problem("this is no file but a device", where=shown, rule=RULE, remedy="name a file")
            return [_file(filesystem, base, base.rpartition("/")[2], info["size"], shown)]
        entries = _below(filesystem, base)
        none = "the folder holds no file"
    if not entries or len(entries) > MAX_FILES:
        raise problem(
            f"the folder or glob holds more than {MAX_FILES} files" if entries else none,
            where=shown,
            rule=RULE,
            remedy="correct the address",
        )
    scheme = shown[: shown.find("://") + 3] if "://" in shown else ""
    return [
        _file(filesystem, name, name[len(base) :].lstrip("/"), entry["size"], scheme + name)
        for name, entry in sorted(entries.items())
    ]


def _info(filesystem: Any, path: str) -> dict[str, Any]:
    try:
        return dict(filesystem.info(path))
    except (FileNotFoundError, PermissionError):
        if not is_of(filesystem, S3):
            raise
        # The answer to a HEAD has no text; the answer to this one says what is wrong.
        bucket, key, _ = filesystem.split_path(path)
        filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=key, MaxKeys=1)
        raise


def _matched(filesystem: Any, pattern: str, base: str) -> dict[str, dict[str, Any]]:
    """The files that a glob matches by path; `base` is the part of it that is none."""
    named = {part[0] for part in pattern[len(base) :].split("/") if _is_hidden(part)}

    def is_skipped(name: str) -> bool:
        return any(_is_hidden(part) and part[0] not in named for part in name[len(base) :].split("/"))

    if is_of(filesystem, S3):
        from fsspec.utils import glob_translate

        is_match = re.compile(glob_translate(pattern)).match
        fixed, rest = pattern[: GLOB.search(pattern).start()], pattern[len(base) :].strip("/")  # type: ignore[union-attr]
        found = object_store.objects(filesystem, fixed, one_level="/" not in rest and "**" not in rest)
        return {
            name: {"size": size}
            for name, size in found
            if is_match(name) and not name.endswith("/") and not is_skipped(name)
        }
    if "**" in pattern:  # a link may lead round in a circle
        for place, folders, _ in os.walk(base):
            for folder in (os.path.join(place, name) for name in folders):
                if os.path.islink(folder) and not is_skipped(folder):
                    raise _no_file(folder)
    entries = {}
    for name in glob.iglob(pattern, recursive=True, include_hidden=True):
        if is_skipped(name) or os.path.isdir(name):
            continue
        if not os.path.isfile(name):
            raise _no_file(name)
        entries[name] = {"size": os.path.getsize(name)}
    return entries


def _below(filesystem: Any, folder: str) -> dict[str, dict[str, Any]]:
    """All files below a folder by path, or one more than MAX_FILES of them."""
    if not is_of(filesystem, S3):
        walk = os.walk(folder, onerror=_raise)
        found = ((Path(place), folders, names) for place, folders, names in walk)
        entries: dict[str, dict[str, Any]] = {}
        for place, folders, names in found:
            folders[:] = [name for name in folders if not _is_hidden(name)]
            for path in (place / name for name in folders):
                if path.is_symlink():
                    raise _no_file(str(path))
            for path in (place / name for name in names if not _is_hidden(name)):
                if not path.is_file():
                    raise _no_file(str(path))
                entries[str(path)] = {"size": path.stat().st_size}
            if len(entries) > MAX_FILES:
                break
        return entries
    # By their prefix, as keys are no paths: below a/ there may be a//b and a/../b.
    entries = {}
    for name, size in object_store.objects(filesystem, f"{folder}/"):
        parts = name[len(folder) + 1 :].split("/")
        if parts[-1] and not any(map(_is_hidden, parts)):
            entries[name] = {"size": size}
        if len(entries) > MAX_FILES:
            break
    return entries


def _is_hidden(name: str) -> bool:
    return name[:1] in ("_", ".") and name not in (".", "..")


def _no_file(path: str) -> Problems:
    what = "is a link to a folder" if os.path.isdir(path) else "is a link to nothing" if os.path.islink(path) else ""
    return problem(
        f"{quote(os.path.basename(path).encode(errors='replace').decode())} {what or 'is no file but a device'}",
        where=path.encode(errors="replace").decode(),
        rule="what lies below a folder, or is matched by a glob, is read and never skipped; links are to files",
        remedy="remove the link or correct it; a folder's own address may be a link",
    )


def _too_long(where: str, most: int) -> Problems:
    return problem(
        f"it is longer than {most} bytes",
        where=where,
        rule="a table or a text, which ends",
        remedy="correct the address, or split the file",
    )


def _check_encoding(encoding: str, where: str) -> None:
    """A file compressed for transfer looks like one that is stored compressed; of both, only gzip can be read."""
    if encoding.strip().lower() not in ("", "identity", "gzip", "x-gzip"):
        raise problem(
            f"the server sends it packed with {quote(encoding)}",
            where=where,
            rule="a server sends a file as it is, or packed with gzip",
            remedy="switch that off at the server, or copy the file",
        )


def _raise(error: OSError) -> None:
    raise error


def _file(filesystem: Any, path: str, name: str, size: int, shown: str) -> File:
    local = None if is_of(filesystem, S3) else Path(path)
    # Names on a disk may be no text.
    shown, name = (text.encode(errors="replace").decode() for text in (shown, name))
    shown = "".join(character if character.isprintable() else "\ufffd" for character in shown)
    return File(address=shown, name=name, size=size, local=local, filesystem=filesystem, path=path)
