"""Tables of strings, read row by row: CSV, JSONL, both also packed with gzip, Parquet and Arrow.

    question,response,faithfulness_judgment
    What colour is a master's sash?,A master's sash is crimson.,YES

What a file is, its content says and not its name. Whatever stands in it, no more than one row is held, of Parquet and
Arrow one batch, and a row longer than MAX_ROW is an error: with a quote that is never closed the rest of a file is one
row.
"""

import contextlib
import dataclasses
import re
import tempfile
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from components.data import arrow, csv_files, json_lines
from components.data.saved_datasets import find_tables
from components.data.texts import MAX_ROW, check_no_nul, open_text, reading
from components.shared import sources
from components.shared.problems import problem

HEAD_CHARACTERS = 1 << 20  # read to know the layout; the header must be in it
OTHER_FILES = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ": "packed with xz",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
}
ARRAY = re.compile(r"\s*\[\s*[{\]]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A file that was recognized; nothing but its beginning is read yet."""

    path: Path
    shown: str
    """Its address, for errors."""
    kind: str
    """csv, jsonl, parquet or arrow."""
    columns: list[str]
    """Of JSONL those of the first object."""
    layout: csv_files.Layout | None = None
    """Of CSV."""

    def rows(
        self, names: Sequence[str], texts: Collection[str] | None = None
    ) -> Iterator[tuple[int, Sequence[str | None]]]:
        """The cells of the named columns with the line that each row begins in; of Parquet and Arrow with its number.

        An empty cell is an empty string; None is where an object of JSONL has no such name.

        Args:
            texts: those that must hold strings, numbers, true or false, all without it; of other columns lists and
                objects are given as JSON.

        Raises:
            Problems: when it cannot be read to its end; all rows that are wrong in themselves at once.
        """
        if self.layout:
            yield from csv_files.iter_rows(self.path, self.shown, self.layout, names)
            return
        is_jsonl = self.kind == "jsonl"
        texts = names if texts is None else texts
        read: Iterator[tuple[int, Sequence[str | None]]] = (
            json_lines.iter_rows(self.path, self.shown, names, texts)
            if is_jsonl
            else arrow.rows(self.path, self.shown, names, texts, MAX_ROW)
        )
        for number, cells in read:
            # The lines of a CSV are checked as they are; here a NUL may be written in other ways.
            for cell in cells:
                check_no_nul(cell or "", f"{self.shown}, {'line' if is_jsonl else 'row'} {number}")
            yield number, cells


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallTable:
    """A table in memory."""

    columns: list[str]
    rows: dict[int, dict[str, str]]
    """By number: of CSV as a spreadsheet shows them, from 2; of JSONL the lines; of Parquet and Arrow from 1."""


def clean(text: str) -> str:
    """Unicode NFC, line ends as \\n, no white space around; empty when there is nothing to see in it."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    return text if text[:1].isprintable() or without_format_characters(text).strip() else ""


def without_format_characters(text: str) -> str:
    """Text without the characters that nobody sees, as the zero-width space."""
    if text.isprintable():
        return text
    return "".join(character for character in text if unicodedata.category(character) != "Cf")


def read_table(address: str, expected: Collection[str] = ()) -> SmallTable:
    """A whole table: questions, for instance.

    Args:
        address: of one file.
        expected: columns that it should have: by them the delimiter is known, and they hold texts.

    Raises:
        Problems: when there is no such file, or it cannot be read.
    """
    with local_files([sources.only_file(find_tables(address), address)]) as ((_, path),):
        return read_local_table(path, sources.without_credentials(address), expected)


def read_local_table(path: Path, shown: str, expected: Collection[str] = ()) -> SmallTable:
    """The same of a file of this machine, whatever lies there; `shown` is its name for errors."""
    table = open_table(path, shown, expected)
    names = json_lines.all_columns(path, table.shown) if table.kind == "jsonl" else table.columns
    names = [name for name in names if name]
    rows: dict[int, dict[str, str]] = {}
    for place, (line, cells) in enumerate(table.rows(names, expected), 2):
        number = place if table.kind == "csv" else line
        rows[number] = {name: cell or "" for name, cell in zip(names, cells, strict=True)}
    return SmallTable(columns=names, rows=rows)


@contextlib.contextmanager
def local_files(files: Sequence[sources.File]) -> Iterator[list[tuple[sources.File, Path]]]:
    """Files with the paths on this machine where they or their copies lie.

    Raises:
        Problems: when one cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, file in enumerate(files):
            path = file.local or Path(folder) / str(number)
            if file.local is None:
                file.copy(path)
            paths.append((file, path))
        yield paths


def open_table(path: Path, shown: str, expected: Collection[str] = ()) -> Table:
    """Recognize a file.

    Args:
        expected: columns that it should have, by which the delimiter is known.

    Raises:
        Problems: when it is no table.
    """
    with reading(path, shown):
        with path.open("rb") as file:
            start = file.read(8)
        if found := next((what for magic, what in OTHER_FILES.items() if start.startswith(magic)), ""):
            raise problem(
                f"the file is {found}",
                where=shown,
                rule="a table is CSV or JSONL, also packed with gzip, Parquet or Arrow",
                remedy="unpack or convert it",
            )
        if kind := next((kind for magic, kind in arrow.MAGIC.items() if start.startswith(magic)), ""):
            return Table(path=path, shown=shown, kind=kind, columns=arrow.columns(path, shown))
        with open_text(path, shown) as text:
            head = text.read(HEAD_CHARACTERS)
        if not head.strip():
            raise problem("the file is empty", where=shown, rule="a CSV with a header", remedy="check what wrote it")
        if head.lstrip().startswith("{"):
            return Table(path=path, shown=shown, kind="jsonl", columns=json_lines.first_columns(path, shown))
        if ARRAY.match(head):
            raise problem(
                "the file is one JSON array",
                where=shown,
                rule="JSONL: one object a line, without a list around them",
                remedy="write one json.dumps(row) a line, or convert it: jq -c '.[]' old.json > new.jsonl",
            )
        layout = csv_files.find_layout(head, shown, expected)
        return Table(path=path, shown=shown, kind="csv", columns=layout.columns, layout=layout)
