"""Files that are either complete or absent: whatever stands under its final name was written to its end.

Written beside the target under a unique name, flushed to the disk, renamed. A pod killed in between leaves only a
`.tmp-*` beside the target, which nobody reads; a second pod that publishes the same thing loses nothing.
The idea is huggingface_hub's (`file_download.py`): a unique name and a rename, because file locks do not work on NFS.
"""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from components.shared.problems import problem

Record = TypeVar("Record")

READ_BYTES = 1 << 20
MAX_JSON_BYTES = 1 << 26  # of a record, a report or an index of weights
# Pods run as any user of one group; the next one must be able to read and to clean up (safetensors writes 0600).
FILE_MODE, FOLDER_MODE = 0o664, 0o775
TEMPORARY = ".tmp-"


def sha256_of_file(path: Path, seen: Callable[[int], None] = lambda _: None) -> str:
    """Hex digest of a file's content, read in pieces of 1 MiB; `seen` gets the length of each."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
            seen(len(piece))
    return digest.hexdigest()


def sha256_of_json(value: Any) -> str:
    """Hex digest of a value's canonical JSON: sorted keys, no white space, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def open_file(path: Path, flags: int = 0) -> BinaryIO:
    """Open a file to read, `flags` of os.open besides. Raises OSError, and ValueError for a pipe or a device, which
    could make its reader wait."""
    file = open(path, "rb", opener=lambda name, given: os.open(name, given | flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(f"{path.name} is no file")
    return file


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises OSError when it cannot be read, and ValueError when it holds no JSON, more than
    MAX_JSON_BYTES, or lists in lists without end."""
    with open_file(path) as file:
        content = file.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        raise ValueError(f"{path.name} has more than {MAX_JSON_BYTES} bytes")
    try:
        return json.loads(content.decode())
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deeply") from None


def from_dict(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """A dataclass, with those in its fields, from what another release may have written: unknown fields are ignored.

    A field that came later needs a default.

    Raises:
        ValueError: when a field is missing or of another type.
    """
    import pydantic  # takes a moment, which --help does not have

    if not isinstance(values, Mapping):
        raise ValueError(f"a {type(values).__name__} in place of an object")
    try:
        return pydantic.TypeAdapter(kind).validate_python(dict(values))
    except pydantic.ValidationError as error:
        wrong = (f"{'.'.join(map(str, one['loc']))}: {one['msg'].lower()}" for one in error.errors()[:3])
        raise ValueError("; ".join(wrong)) from None


def iter_jsonl(path: Path) -> Iterator[Any]:
    """The rows, one at a time."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def read_jsonl(path: Path) -> list[Any]:
    return list(iter_jsonl(path))


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """One JSON value a line; the folder that holds it is what gets published."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def write_text(path: Path, text: str) -> None:
    """Write a whole file under its final name, or leave what was there."""
    content = text.encode()
    make_folders(path.parent)
    temporary = _beside(path)
    try:
        temporary.write_bytes(content)
        flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    flush(path.parent)


def write_output(path: Path, text: str) -> None:
    """As `write_text`, for a file that the user named.

    Raises:
        Problems: when it cannot be written.
    """
    try:
        write_text(path, text)
    except OSError as error:
        raise problem(
            f"the file cannot be written: {error.strerror}",
            where=str(path),
            rule="a file in a folder that you may write to",
            remedy="name another file",
        ) from None


def write_json(path: Path, value: Any) -> None:
    """Write a whole JSON file under its final name, or leave what was there."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def publish_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it appears as `final`, complete, when the block ends without an error.

    If somebody else published `final` meanwhile, theirs stays and ours is dropped: a name stands for one content.
    """
    make_folders(final.parent)
    temporary = _beside(final)
    temporary.mkdir()
    try:
        yield temporary
        for path in sorted(temporary.rglob("*")):
            path.chmod(FOLDER_MODE if path.is_dir() else FILE_MODE)
            flush(path)
        temporary.chmod(FOLDER_MODE)
        flush(temporary)
        publish_whole(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish_whole(folder: Path, final: Path) -> None:
    """Let a complete folder of the same volume appear as `final`; what stands there already stays.

    Others may still be writing to a folder that is shared: what they make while it is removed, they remove.
    """
    make_folders(final.parent)
    try:
        folder.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(folder, ignore_errors=True)
    flush(final.parent)


def make_folders(folder: Path) -> None:
    """Make a folder and those above it, for every pod of the group."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        with contextlib.suppress(PermissionError):  # another pod made it meanwhile, and with these modes
            path.chmod(FOLDER_MODE)


def remove(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link and not what it points at."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _beside(path: Path) -> Path:
    return path.parent / f"{TEMPORARY}{path.name}-{uuid.uuid4().hex[:12]}"


def flush(path: Path) -> None:
    """Have a file or folder on the disk, not only in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
