"""CSV, read row by row: comma, semicolon, tab or pipe between cells, double quotes around them, doubled inside."""

import contextlib
import csv
import dataclasses
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from components.data.texts import MAX_COLUMNS, MAX_ROW, Lines, check_no_nul, open_text, reading
from components.shared.problems import list_some, problem, quote

MAX_NAMED = 20  # rows that an error names; more are counted
DELIMITERS = ",;\t|"
RULE = "one row a record, strings with delimiters, quotes or line breaks in double quotes, a quote doubled"
REMEDY = "write it with a CSV library, for instance pandas.DataFrame.to_csv(index=False)"

SEPARATOR_LINE = re.compile(r'"?sep=([,;\t|])"?(\r\n|\n|\r)', re.IGNORECASE)
"""The first line by which Excel knows the delimiter."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """What the beginning of a file shows."""

    columns: list[str]
    delimiter: str
    has_separator_line: bool


def find_layout(head: str, shown: str, expected: Collection[str]) -> Layout:
    """The layout of the file that begins with `head`: the delimiter with which most of the expected columns are found.

    Raises:
        Problems: when it is no CSV.
    """
    separator_line = SEPARATOR_LINE.match(head)
    head = head[separator_line.end() :] if separator_line else head
    best: tuple[tuple[int, int], str, list[str]] = ((-1, 0), ",", [])
    for delimiter in separator_line[1] if separator_line else DELIMITERS:
        with contextlib.suppress(csv.Error):
            reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter, strict=True)
            names = [name.strip() for name in next((cells for cells in reader if cells), [])]
            score = (len(set(expected) & set(names)), len(names))
            best = max(best, (score, delimiter, names), key=lambda choice: choice[0])
    _, delimiter, names = best
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
            f"the header names columns more than once: {list_some(map(quote, repeated), 5)}",
            where=f"{shown}, header",
            rule="the header names a column once",
            remedy="rename or remove the others",
        )
    return Layout(columns=names, delimiter=delimiter, has_separator_line=separator_line is not None)


def iter_rows(path: Path, shown: str, layout: Layout, names: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """The cells of the named columns, with the line that each row begins in.

    Raises:
        Problems: when it cannot be read to its end.
    """
    places = [layout.columns.index(name) for name in names]
    width = len(layout.columns)
    wrong: list[int] = []
    wrong_rows = 0
    with reading(path, shown), open_text(path, shown) as text:
        lines = Lines(text, shown)
        csv.field_size_limit(MAX_ROW)  # one for the whole process, and below what csv itself allows
        if layout.has_separator_line:
            next(lines)
            lines.begin()
        has_header = False
        try:
            for cells in csv.reader(lines, delimiter=layout.delimiter, strict=True):
                line = lines.begin()
                if not cells:
                    continue
                if not has_header:
                    has_header = True
                elif len(cells) == width:
                    yield line, [cells[place] for place in places]
                else:
                    wrong_rows += 1
                    wrong = [*wrong, line][:MAX_NAMED]
        except csv.Error as error:
            raise problem(
                f"the file is no CSV: {error}",
                where=f"{shown}, row that begins in line {lines.first}",
                rule=RULE,
                remedy=REMEDY,
            ) from None
    if wrong:
        raise problem(
            f"the file is no CSV: {wrong_rows} rows have more or fewer cells than the header, which has {width}",
            where=f"{shown}, rows that begin in lines {list_some(wrong, 5)}",
            rule=RULE,
            remedy=REMEDY,
        )
