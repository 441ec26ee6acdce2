"""The beginnings of a source's files of weights: their headers say whether it is worth fetching the rest."""

from pathlib import Path

from components.models.folder import check_weights, read_headers
from components.models.headers import MAX_HEADER_BYTES, PREFIX_BYTES, Header, header_bytes
from components.shared.problems import Problems
from components.snapshot_model.fetching import fetch_beginnings
from components.snapshot_model.model_source import FileInfo, Source

FIRST_BYTES = 1 << 16  # the header of a file of a large model's has some ten thousand


def check_beginnings(folder: Path, weights: dict[str, FileInfo], source: Source) -> tuple[dict[str, Header], int]:
    """Fetch as much of each file as its header takes, and compare the headers with the model in the folder.

    What arrives stays where the file is to be, for `fetch_files` to resume. A beginning that is not right is fetched
    once more: it may be of an attempt whose connection was damaged.

    Returns:
        The headers by file, and how many bytes were received.

    Raises:
        Problems: when a file cannot be had, or the headers are not those of the model.
    """
    received = _fetch(folder, weights, source)
    try:
        return _check(folder, weights, source), received
    except Problems:
        for name in weights:
            (folder / name).unlink(missing_ok=True)
        received += _fetch(folder, weights, source)
        return _check(folder, weights, source), received


def _fetch(folder: Path, weights: dict[str, FileInfo], source: Source) -> int:
    received = fetch_beginnings(folder, weights, FIRST_BYTES, source)
    longest = max(header_bytes(folder / name) for name in weights)
    if FIRST_BYTES < longest <= PREFIX_BYTES + MAX_HEADER_BYTES:
        received += fetch_beginnings(folder, weights, longest, source)
    return received


def _check(folder: Path, weights: dict[str, FileInfo], source: Source) -> dict[str, Header]:
    headers = read_headers(folder, {name: info.size for name, info in weights.items()}, source.where)
    check_weights(folder, headers, source.where)
    return headers
