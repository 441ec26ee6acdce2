"""The beginnings of a source's files of weights: their headers say whether it is worth fetching the rest."""

import contextlib
import os
import threading
from pathlib import Path

from components.models.folder import check_weights
from components.models.headers import Header, read_header
from components.shared.problems import Checks, Problems, problem
from components.shared.storage import FILE_MODE
from components.snapshot_model import model_source
from components.snapshot_model.fetching import size_of, writing
from components.snapshot_model.model_source import FileInfo, RetryPolicy, Source, Unreachable


def check_beginnings(folder: Path, weights: dict[str, FileInfo], source: Source) -> dict[str, Header]:
    """Fetch as much of each file as its header takes, and compare the headers with the model in the folder.

    What arrives stays where the file is to be, for `fetch_files` to resume. A beginning that is not right is fetched
    once more: it may be of an attempt whose connection was damaged.

    Raises:
        Problems: when a file cannot be had, or the headers are not those of the model.
    """
    try:
        return _check(folder, weights, source)
    except Problems as error:
        if error.may_pass:
            raise
        for name in weights:
            (folder / name).unlink(missing_ok=True)
        return _check(folder, weights, source)


def _check(folder: Path, weights: dict[str, FileInfo], source: Source) -> dict[str, Header]:
    checks, headers = Checks(), {}
    for name, info in weights.items():
        with checks.collecting():
            headers[name] = _fetch_header(folder / name, info, source)
    checks.raise_if_any()
    check_weights(folder, headers, source.where)
    return headers


def _fetch_header(path: Path, info: FileInfo, source: Source) -> Header:
    retry = RetryPolicy(model_source.DOWNLOAD_TIMEOUT_SECONDS, threading.Event())
    while True:
        try:
            return _receive(path, info, source)
        except Unreachable as error:
            try:
                retry.wait(error, path.name)
            except Unreachable:
                raise problem(
                    f"{path.name} cannot be fetched: {error}",
                    where=source.where,
                    rule=f"a download makes progress within {model_source.DOWNLOAD_TIMEOUT_SECONDS:.0f} s",
                    remedy="run again later; what has arrived stays",
                    may_pass=True,
                ) from None


def _receive(path: Path, info: FileInfo, source: Source) -> Header:
    """Write what comes until the header is there."""
    where = f"{source.where}, {path.name}"
    header = read_header(path, info.size, where)
    if header is not None:
        return header
    offset = size_of(path) if info.digest else 0  # without, what is there may be of anything
    with writing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE)
    with (
        os.fdopen(descriptor, "r+b", buffering=0) as file,
        contextlib.closing(source.read(path.name, offset)) as pieces,
    ):
        for piece in pieces:
            with writing(path):
                file.seek(offset)
                offset += file.write(piece)
            header = read_header(path, info.size, where)
            if header is not None:
                return header
    raise Unreachable(f"the answer ended at byte {offset} of {info.size}")
