"""What only shows when the source and the volume do things at a given moment."""

import hashlib
import time
from collections.abc import Callable, Iterator

import pytest

from components.shared.storage import sha256_of_file
from components.snapshot_model import model_source
from components.snapshot_model.fetching import CHECK_BYTES, fetch_files
from components.snapshot_model.model_source import FileInfo, Source, Unreachable
from tests.fast.conftest import only_problem_of
from tests.hub_server import git_blob_id, sha256

CONTENT = bytes(range(256)) * 40_000
PIECE = 1 << 16
NAME = "model.safetensors"
FILES = {NAME: FileInfo(size=len(CONTENT), digest=sha256(CONTENT))}


def source_of(read: Callable[[str, int, int], Iterator[bytes]]) -> Source:
    return Source(
        name="org/model", revision="main", commit="0" * 40, where="here", if_damaged="", files=FILES, card={}, read=read
    )


def pieces(offset: int) -> Iterator[bytes]:
    for start in range(offset, len(CONTENT), PIECE):
        yield CONTENT[start : start + PIECE]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(model_source, "DOWNLOAD_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(model_source, "FIRST_WAIT_SECONDS", 0.01)


@pytest.mark.parametrize("there", [0, 1, PIECE, len(CONTENT) - 1, len(CONTENT)])
def test_only_what_is_not_there_is_read(tmp_path, there):
    asked = []

    def read(name, offset, end):
        asked.append(offset)
        return pieces(offset)

    (tmp_path / NAME).write_bytes(CONTENT[:there])
    fetched = fetch_files(tmp_path, FILES, source_of(read))
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert asked == ([there] if there < len(CONTENT) else [])
    assert fetched.fetched_bytes == len(CONTENT) - there
    assert fetched.files == FILES


def test_what_is_longer_than_it_should_be_is_read_again(tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT + b"x")
    fetch_files(tmp_path, FILES, source_of(lambda name, offset, end: pieces(offset)))
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_nothing_is_written_to_a_file_that_was_published_meanwhile(tmp_path):
    partial, published = tmp_path / "partial", tmp_path / "published"
    partial.mkdir()

    def read(name, offset, end):
        for number, piece in enumerate(pieces(offset)):
            if number == 20:
                partial.rename(published)
            yield piece

    with pytest.raises(FileNotFoundError):
        fetch_files(partial, FILES, source_of(read))
    assert (published / NAME).stat().st_size <= 20 * PIECE + CHECK_BYTES
    assert not partial.exists()


def test_file_that_another_writes_at_the_same_time_ends_right(tmp_path):
    """Two that know nothing of each other, one ahead of the other, both from the source's bytes."""
    results = {}

    def slow(name, offset, end):
        for number, piece in enumerate(pieces(offset)):
            if number == 10 and not results:
                results["other"] = fetch_files(tmp_path, FILES, source_of(lambda name, offset, end: pieces(offset)))
            yield piece

    fetched = fetch_files(tmp_path, FILES, source_of(slow))
    assert fetched.files == results["other"].files == FILES
    assert sha256_of_file(tmp_path / NAME) == FILES[NAME].digest
    assert results["other"].fetched_bytes == len(CONTENT) - 10 * PIECE


def test_source_that_trickles_is_given_up(tmp_path):
    def read(name, offset, end):
        for piece in pieces(offset):
            time.sleep(0.05)
            yield piece[:100]

    started = time.monotonic()
    found = only_problem_of(fetch_files, tmp_path, FILES, source_of(read))
    assert found.what.startswith(f"{NAME} cannot be fetched: it trickles")
    assert time.monotonic() - started < 3
    assert (tmp_path / NAME).stat().st_size > 0


@pytest.mark.parametrize(("seconds", "is_waited_for"), [(0.2, True), (0.6, False), (3600.0, False)])
def test_wish_to_be_left_alone_is_heard_within_the_patience(tmp_path, seconds, is_waited_for):
    asked = []

    def read(name, offset, end):
        asked.append(time.monotonic())
        if len(asked) == 1:
            raise Unreachable("busy", retry_after_seconds=seconds)
        yield from pieces(offset)

    if is_waited_for:
        fetch_files(tmp_path, FILES, source_of(read))
        assert asked[1] - asked[0] >= seconds
    else:
        assert only_problem_of(fetch_files, tmp_path, FILES, source_of(read)).what.endswith("cannot be fetched: busy")
        assert time.monotonic() - asked[0] < 0.5


def test_first_failure_ends_the_others(tmp_path):
    files = {**FILES, "config.json": FileInfo(size=10, digest="")}

    def read(name, offset, end):
        if name == "config.json":
            yield b"more than ten bytes"
        else:
            while True:
                time.sleep(0.01)
                yield b"x"

    started = time.monotonic()
    assert "config.json has another length" in only_problem_of(fetch_files, tmp_path, files, source_of(read)).what
    assert time.monotonic() - started < 0.5


@pytest.mark.parametrize("there", [1, PIECE, len(CONTENT)])
def test_what_was_there_is_written_once_more_where_no_digest_can_show_it_to_be_right(tmp_path, there):
    files = {NAME: FileInfo(size=len(CONTENT), digest="")}
    (tmp_path / NAME).write_bytes(bytes(there))
    asked = []

    def read(name, offset, end):
        asked.append(offset)
        for number, piece in enumerate(pieces(offset)):
            if number == 20 and len(asked) == 1:
                raise Unreachable("cut")
            yield piece

    fetched = fetch_files(tmp_path, files, source_of(read))
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert asked == [0, 20 * PIECE]  # within an attempt it goes on
    assert (fetched.fetched_bytes, fetched.files) == (len(CONTENT), FILES)


@pytest.mark.parametrize("digest", [sha256(CONTENT), git_blob_id(CONTENT), hashlib.md5(CONTENT).hexdigest()])
def test_every_kind_of_digest_is_compared(tmp_path, digest):
    files = {NAME: FileInfo(size=len(CONTENT), digest=digest)}
    (tmp_path / NAME).write_bytes(CONTENT)
    assert fetch_files(tmp_path, files, source_of(lambda name, offset, end: iter(()))).fetched_bytes == 0
    (tmp_path / NAME).write_bytes(bytes(len(CONTENT)))
    assert fetch_files(tmp_path, files, source_of(lambda name, offset, end: pieces(offset))).files == FILES
    (tmp_path / NAME).unlink()
    damaged = source_of(lambda name, offset, end: (piece for piece in (bytes(len(CONTENT)),)))
    assert f"{NAME} arrived damaged" in only_problem_of(fetch_files, tmp_path, files, damaged).what
