"""Tables of texts, read row by row: CSV of any dialect, JSONL, both also packed with gzip, and Parquet.

    question,response,faithfulness_judgment
    What colour is a master's sash?,A master's sash is crimson.,YES

What a file is, its content says and not its name. Whatever stands in it, no more than one row is held, and a row longer
than MAX_ROW is an error: with a quote that is never closed the whole rest of a file is one row.
"""

import contextlib
import csv
import dataclasses
import io
import json
import math
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from components.data import parquet
from components.data.texts import MAX_ROW, Lines, check_no_nul, open_text, told
from components.shared import sources
from components.shared.problems import Checks, list_some, problem, quote

MAX_COLUMNS = 20_000
HEAD_CHARACTERS = 1 << 20  # looked at to know the dialect; the header must be in it
MAX_NAMED = 20  # rows that are each a problem; more are counted
DELIMITERS = ",;\t|"
PARQUET = b"PAR1"
OTHER_FILES = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ": "packed with xz",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"ARROW1": "an Arrow file",
}
NO_OBJECT = "is no object whose values are texts, numbers, true or false"
RULE = "one row a record, texts with delimiters, quotes or line breaks in double quotes, a quote doubled"
REMEDY = "write it with a CSV library, for instance pandas.DataFrame.to_csv(index=False)"

SEPARATOR_LINE = re.compile(r'"?sep=([,;\t|])"?(\r\n|\n|\r)', re.IGNORECASE)
"""The first line with which Excel is told the delimiter."""
ARRAY = re.compile(r"\s*\[\s*[{\]]")

Row = tuple[int, Sequence[str | None]]
"""The line that a row begins in, and its cells; None where an object of JSONL has no such name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A file that was recognized; nothing but its beginning is read yet."""

    path: Path
    shown: str
    """Its address, for errors."""
    kind: str
    """csv, jsonl or parquet."""
    columns: list[str]
    """Of JSONL those of the first object."""
    delimiter: str = ","
    quote_mark: str = '"'
    escape: str | None = None
    """The character before a quote that is text, where quotes are not doubled."""
    separator_line: bool = False
    """Whether the line before the header is a SEPARATOR_LINE."""

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """The cells of the named columns, as text; an empty one is an empty text. Of Parquet, rows count from 1.

        Raises:
            Problems: when it cannot be read to its end; all rows that are wrong in themselves at once.
        """
        if self.kind == "csv":
            yield from _csv_rows(self, names)
            return
        read = _json_rows(self, names) if self.kind == "jsonl" else parquet.rows(self.path, self.shown, names, MAX_ROW)
        for line, cells in read:
            # The lines of a CSV are looked at as they are; here a NUL may be written in other ways.
            for cell in cells:
                check_no_nul(cell or "", f"{self.shown}, {'line' if self.kind == 'jsonl' else 'row'} {line}")
            yield line, cells


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallTable:
    """A table in memory."""

    columns: list[str]
    rows: dict[int, dict[str, str]]
    """By number: of CSV as a spreadsheet shows them, from 2; of JSONL the lines; of Parquet from 1."""


def clean(text: str) -> str:
    """Unicode NFC, line ends as \\n, no white space around; empty when there is nothing to see in it."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    return text if text[:1].isprintable() or without_format_characters(text).strip() else ""


def without_format_characters(text: str) -> str:
    """Text without the characters that nobody sees, as the zero-width space."""
    if text.isprintable():
        return text
    return "".join(character for character in text if unicodedata.category(character) != "Cf")


def read_table(address: str, wanted: Collection[str] = ()) -> SmallTable:
    """A whole table: questions, for instance.

    Args:
        address: of one file.
        wanted: columns that it should have; they tell the dialect.

    Raises:
        Problems: when there is no such file, or it cannot be read.
    """
    with one_local_file(address) as path:
        table = open_table(path, sources.without_credentials(address), wanted)
        names = table.columns if table.kind != "jsonl" else _all_columns(table)
        names = [name for name in names if name]
        read = enumerate(table.rows(names), 2) if table.kind == "csv" else ((row[0], row) for row in table.rows(names))
        rows = {n: {name: cell or "" for name, cell in zip(names, cells, strict=True)} for n, (_, cells) in read}
        return SmallTable(columns=names, rows=rows)


@contextlib.contextmanager
def one_local_file(address: str) -> Iterator[Path]:
    """The one file behind an address, as a file of this machine.

    Raises:
        Problems: when it cannot be read, or there is more than one.
    """
    with local_files(address) as files:
        if len(files) > 1:
            raise problem(
                f"this is a folder or a glob of {len(files)} files",
                where=sources.without_credentials(address),
                rule="one file is read here",
                remedy="name the file in it",
            )
        yield files[0][1]


@contextlib.contextmanager
def local_files(address: str) -> Iterator[list[tuple[sources.File, Path]]]:
    """The files behind an address, and where they or their copies lie on this machine.

    Raises:
        Problems: when one cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, file in enumerate(sources.find_files(address)):
            path = file.local or Path(folder) / str(number)
            if file.local is None:
                file.copy(path)
            paths.append((file, path))
        yield paths


def open_table(path: Path, shown: str, wanted: Collection[str] = ()) -> Table:
    """Recognize a file.

    Args:
        wanted: columns that it should have; they tell the dialect.

    Raises:
        Problems: when it is no table.
    """
    with told(path, shown):
        with path.open("rb") as file:
            start = file.read(8)
        if found := next((what for magic, what in OTHER_FILES.items() if start.startswith(magic)), ""):
            raise problem(
                f"the file is {found}",
                where=shown,
                rule="a table is CSV or JSONL, also packed with gzip, or Parquet",
                remedy="unpack or convert it",
            )
        if start.startswith(PARQUET):
            return Table(path=path, shown=shown, kind="parquet", columns=parquet.columns(path, shown))
        with open_text(path, shown) as text:
            head = text.read(HEAD_CHARACTERS)
        if not head.strip():
            raise problem("the file is empty", where=shown, rule="a CSV with a header", remedy="check what wrote it")
        if head.lstrip().startswith("{"):
            wrong = _WrongLines(shown)
            first = next(_objects(path, shown, wrong), None)
            if first is None:
                wrong.check()
            return Table(path=path, shown=shown, kind="jsonl", columns=list(first[1]) if first else [])
        if ARRAY.match(head):
            raise problem(
                "the file is one JSON array",
                where=shown,
                rule="JSONL: one object a line, without a list around them",
                remedy="write one json.dumps(row) a line, or convert it: jq -c '.[]' old.json > new.jsonl",
            )
        return _open_csv(path, shown, head, wanted)


def _open_csv(path: Path, shown: str, head: str, wanted: Collection[str]) -> Table:
    separator_line = SEPARATOR_LINE.match(head)
    head = head[separator_line.end() :] if separator_line else head
    mark = "'" if head.startswith("'") else '"'
    best: tuple[tuple[int, int], str, list[str]] = ((-1, 0), ",", [])
    for delimiter in separator_line[1] if separator_line else DELIMITERS:
        reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter, quotechar=mark, strict=True)
        with contextlib.suppress(csv.Error):
            header = next((cells for cells in reader if cells), [])
            names = [name.strip() for name in header]
            score = (len(set(wanted) & set(names)), len(names))
            best = max(best, (score, delimiter, names), key=lambda choice: choice[0])
    names = best[2]
    check_no_nul("".join(names), f"{shown}, header, line 1")
    if not names or len(names) > MAX_COLUMNS:
        raise problem(
            f"the header has {len(names)} columns" if names else "the file is no CSV: its header cannot be read",
            where=f"{shown}, header",
            rule=f"{RULE}; at most {MAX_COLUMNS} columns",
            remedy=REMEDY,
        )
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1 and name):
        raise problem(
            f"columns stand in the header more than once: {list_some(map(quote, repeated), 5)}",
            where=f"{shown}, header",
            rule="a column's name stands in the header once",
            remedy="rename or remove the others",
        )
    escaped = f"\\{mark}" in head and not _fits(head, best[1], mark, None) and _fits(head, best[1], mark, "\\")
    return Table(
        path=path,
        shown=shown,
        kind="csv",
        columns=names,
        delimiter=best[1],
        quote_mark=mark,
        escape="\\" if escaped else None,
        separator_line=separator_line is not None,
    )


def _fits(head: str, delimiter: str, mark: str, escape: str | None) -> bool:
    """Whether the beginning of a CSV is read without an error, all its rows with as many cells."""
    whole = len(head) < HEAD_CHARACTERS
    lines = io.StringIO(head, newline="")
    reader = csv.reader(lines, delimiter=delimiter, quotechar=mark, escapechar=escape, strict=True)
    widths: list[int] = []
    try:
        widths += (len(cells) for cells in reader if cells)
    except csv.Error:
        if whole or lines.read(1):
            return False
    return len(set(widths if whole else widths[:-1])) == 1


def _csv_rows(table: Table, names: Sequence[str]) -> Iterator[Row]:
    places = [table.columns.index(name) for name in names]
    width = len(table.columns)
    wrong: list[int] = []
    wrong_rows = 0
    with told(table.path, table.shown), open_text(table.path, table.shown) as text:
        lines = Lines(text, table.shown)
        csv.field_size_limit(MAX_ROW)  # one for the whole process, and below what csv itself allows
        if table.separator_line:
            next(lines)
            lines.begin()
        reader = csv.reader(
            lines, delimiter=table.delimiter, quotechar=table.quote_mark, escapechar=table.escape, strict=True
        )
        header = False
        try:
            for cells in reader:
                line = lines.begin()
                if not cells:
                    continue
                if not header:
                    header = True
                elif len(cells) == width:
                    yield line, [cells[place] for place in places]
                else:
                    wrong_rows += 1
                    wrong = [*wrong, line][:MAX_NAMED]
        except csv.Error as error:
            raise problem(
                f"the file is no CSV: {error}",
                where=f"{table.shown}, row that begins in line {lines.first}",
                rule=RULE,
                remedy=REMEDY,
            ) from None
    if wrong:
        raise problem(
            f"the file is no CSV: {wrong_rows} rows have more or fewer cells than the header, which has {width}",
            where=f"{table.shown}, rows that begin in lines {list_some(wrong, 5)}",
            rule=RULE,
            remedy=REMEDY,
        )


def _json_rows(table: Table, names: Sequence[str]) -> Iterator[Row]:
    wrong = _WrongLines(table.shown)
    for line, row in _objects(table.path, table.shown, wrong):
        cells = [_cell(row[name]) if name in row else None for name in names]
        if bad := [name for name, cell in zip(names, cells, strict=True) if cell is None and name in row]:
            wrong.add(line, f"{NO_OBJECT}: {quote(bad[0])}")
        else:
            yield line, cells
    wrong.check()


def _objects(path: Path, shown: str, wrong: "_WrongLines") -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file by their line; adds the lines that are none to `wrong`."""
    with told(path, shown), open_text(path, shown) as text:
        lines = Lines(text, shown)
        for line in lines:
            number = lines.begin()
            if not line.strip():
                continue
            row: Any = None
            try:
                row = json.loads(line, object_pairs_hook=tuple)  # a dict would keep the last of two of a name
                what = NO_OBJECT
            except ValueError as error:
                what = f"is no JSON: {error}"
            except RecursionError:
                what = "is no JSON: nested too deeply"
            if isinstance(row, tuple):
                named = {_name(name): value for name, value in row}
                if len(named) == len(row):
                    yield number, named
                    continue
                counts = Counter(_name(name) for name, _ in row)
                what = f"has a name more than once: {quote(counts.most_common(1)[0][0])}"
            wrong.add(number, what)


def _all_columns(table: Table) -> list[str]:
    """The names of all objects; lines that are none are a problem of who reads the rows."""
    names: dict[str, None] = {}
    for _, row in _objects(table.path, table.shown, _WrongLines(table.shown)):
        names |= dict.fromkeys(row)
        if len(names) > MAX_COLUMNS:
            raise problem(
                f"there are more than {MAX_COLUMNS} columns",
                where=table.shown,
                rule="the objects of a table have the same names",
                remedy="check what wrote it",
            )
    return list(names)


def _name(name: str) -> str:
    return name.strip().encode(errors="replace").decode()


def _cell(value: Any) -> str | None:
    """A JSON value as text; None for what is none: lists, objects, NaN, half a surrogate pair."""
    if isinstance(value, str):
        return None if _has_surrogate(value) else value
    if value is None:
        return ""
    if isinstance(value, tuple | list) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return json.dumps(value)


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


class _WrongLines:
    """Collects the lines that are wrong in themselves: the first MAX_NAMED as a problem each, the others counted."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._checks = Checks()
        self._count = 0

    def add(self, line: int, what: str) -> None:
        self._count += 1
        if self._count <= MAX_NAMED:
            self._add(f"line {line} {what}", f"{self._shown}, line {line}")

    def check(self) -> None:
        """Raises:
        Problems: when there are any.
        """
        if self._count > MAX_NAMED:
            self._add(f"{self._count - MAX_NAMED} more lines are no objects of texts", self._shown)
        self._checks.raise_if_any()

    def _add(self, what: str, where: str) -> None:
        self._checks.add(
            what,
            where=where,
            rule="JSONL: one object a line, the columns' names with their texts",
            remedy="write it with a JSON library, one json.dumps(row) a line",
        )
