"""Text out of files that may hold anything: plain or packed with gzip, UTF-8 or UTF-16, with bounds on memory."""

import codecs
import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from components.shared.problems import problem
from components.shared.source_errors import VOLUME_AWAY

MAX_ROW = 1 << 24  # characters; a hundred times what any model reads at once
MAX_COLUMNS = 20_000
MAX_RATIO, RATIO_FROM_BYTES = 200, 1 << 26  # gzip unpacks texts to some 4 times their size, zeros to 1,000 times
MAX_UNPACKED = 1 << 38
BLANK_LINES, MAX_BLANK = ("\n", "\r\n", "\r"), 1_000_000
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
GZIP = b"\x1f\x8b"


class Lines:
    """Lines of a text with their number; those of one row together are not longer than MAX_ROW."""

    def __init__(self, text: io.TextIOBase, shown: str) -> None:
        self.first = 1
        """The line that the current row begins in."""
        self._text = text
        self._shown = shown
        self._number = 0
        self._length = 0
        self._blank = 0

    def __iter__(self) -> "Iterator[str]":
        return self

    def __next__(self) -> str:
        line = self._text.readline(MAX_ROW)
        if not line:
            raise StopIteration
        self._number += 1
        self._length += len(line)
        if self._length >= MAX_ROW:
            raise problem(
                f"the row is longer than {MAX_ROW:,} characters",
                where=f"{self._shown}, row that begins in line {self.first}",
                rule="a row is a question, an answer and what belongs to it",
                remedy="close the quote in that row, if it is not closed; otherwise take the row out",
            )
        self._blank = self._blank + 1 if line in BLANK_LINES else 0
        if self._blank > MAX_BLANK:
            raise problem(
                f"there are more than {MAX_BLANK:,} empty lines one after the other",
                where=f"{self._shown}, line {self._number}",
                rule="a table holds rows",
                remedy="check what wrote it",
            )
        check_no_nul(line, f"{self._shown}, line {self._number}")
        return line

    def begin(self) -> int:
        """End the row; gives the line that it began in."""
        began, self.first, self._length = self.first, self._number + 1, 0
        return began


def check_no_nul(text: str, where: str) -> None:
    """Raises:
    Problems: when there is one.
    """
    if "\0" in text:
        raise problem(
            "there is a NUL character",
            where=where,
            rule="tables are text: UTF-8, or UTF-16 with a byte order mark",
            remedy="convert the file, or remove the character",
        )


class _Unpacked(io.RawIOBase):
    """What a gzip file unpacks to, as long as that is in proportion."""

    def __init__(self, packed: BinaryIO, size: int, shown: str) -> None:
        self._file = gzip.GzipFile(fileobj=packed)
        self._max_bytes = min(MAX_UNPACKED, max(RATIO_FROM_BYTES, MAX_RATIO * size))
        self._unpacked = 0
        self._shown = shown

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read1(len(buffer))
        self._unpacked += len(content)
        if self._unpacked > self._max_bytes:
            raise problem(
                f"the file unpacks to more than {self._max_bytes >> 20} MiB",
                where=self._shown,
                rule=f"a packed table is at most {MAX_RATIO} times as large as its file",
                remedy="unpack it yourself, and look at what it holds",
            )
        buffer[: len(content)] = content
        return len(content)


@contextlib.contextmanager
def open_text(path: Path, shown: str) -> Iterator[io.TextIOWrapper]:
    """A file's text, its line ends as they are."""
    with _bytes(path, shown) as file:
        marks = (name for mark, name in BYTE_ORDER_MARKS.items() if file.peek(4).startswith(mark))
        yield io.TextIOWrapper(file, encoding=next(marks, "utf-8"), newline="")


@contextlib.contextmanager
def _bytes(path: Path, shown: str) -> Iterator[io.BufferedReader]:
    with path.open("rb") as file:
        if file.peek(2).startswith(GZIP):
            yield io.BufferedReader(_Unpacked(file, path.stat().st_size, shown), 1 << 16)
        else:
            yield file


@contextlib.contextmanager
def reading(path: Path, shown: str) -> Iterator[None]:
    """Turn what reading a file raises into a problem."""
    may_pass = False
    try:
        yield
        return
    except UnicodeDecodeError:
        where, what = _undecodable(path, shown)
        rule = "tables are UTF-8 text, or UTF-16 with a byte order mark"
        remedy = "convert it, for instance: iconv -f WINDOWS-1252 -t UTF-8 old.csv > new.csv"
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        where, what = shown, f"the gzip file is damaged: {error}"
        rule, remedy = "a packed file is complete", "copy or make it again"
    except OSError as error:
        where, what = shown, f"cannot be read: {error.strerror}"
        rule, remedy = "data and questions are readable files", "check the file, then run again"
        may_pass = error.errno in VOLUME_AWAY
    raise problem(what, where=where, rule=rule, remedy=remedy, may_pass=may_pass)


def _undecodable(path: Path, shown: str) -> tuple[str, str]:
    """Where a file's first byte is that is no text, and what it is."""
    damaged = (EOFError, zlib.error, gzip.BadGzipFile)  # then the text ends there
    with _bytes(path, shown) as file, contextlib.suppress(*damaged):
        marks = [name for mark, name in BYTE_ORDER_MARKS.items() if file.peek(4).startswith(mark)]
        decoder = codecs.getincrementaldecoder(marks[0] if marks else "utf-8")()
        offset, line = 0, 1
        while piece := file.read1(1 << 16):
            pending = decoder.getstate()[0]
            try:
                line += decoder.decode(piece).count("\n")
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                byte = error.object[error.start]
                place = offset - len(pending) + error.start
                return f"{shown}, line {line}, byte {place}", f"the file is not UTF-8: byte 0x{byte:02x}"
            offset += len(piece)
    return f"{shown}, end", "the file ends in the middle of a character"
