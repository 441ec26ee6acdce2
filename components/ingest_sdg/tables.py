"""A table of texts from anywhere that fsspec reads: a path, `file://`, `https://`; `s3://` where s3fs is installed."""

import csv
import io
import json
import unicodedata
from typing import TYPE_CHECKING, Any

from components.problems import Checks, problem, quote

if TYPE_CHECKING:
    import pandas as pd


RULE = "one row a record, texts with commas, quotes or line breaks in double quotes, a quote doubled"
REMEDY = "write it with a CSV library, for instance pandas.DataFrame.to_csv(index=False)"


def clean(text: str) -> str:
    """Unicode NFC, line ends as \\n, no white space around."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def read_table(uri: str) -> "pd.DataFrame":
    """All cells as text; an empty cell is an empty text. CSV, or JSONL when the first character is a {.

    The index holds the rows' numbers: of CSV as a spreadsheet shows them, from 2; of JSONL the lines.

    Raises:
        Problems: when there is no such file, it is not UTF-8, or it is neither.
    """
    import pandas as pd

    content = read_bytes(uri)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise problem(
            f"the file is not UTF-8: byte 0x{content[error.start]:02x}",
            where=f"{uri}, line {line}, byte {error.start}",
            rule="tables are UTF-8 text",
            remedy="convert it, for instance: iconv -f WINDOWS-1252 -t UTF-8 old.csv > new.csv",
        ) from None
    if not text.strip():
        raise problem("the file is empty", where=uri, rule="a CSV with a header", remedy="check what wrote it")
    if text.lstrip().startswith("{"):
        rows = _json_lines(text, uri)
        return pd.DataFrame(list(rows.values()), index=list(rows), dtype=str).fillna("")
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, skip_blank_lines=True)
    except pd.errors.ParserError as error:
        raise problem(
            f"the file is no CSV: {str(error).strip()}",
            where=uri,
            rule=RULE,
            remedy=REMEDY,
        ) from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus cells of the first row for row names
        raise problem(
            f"the file is no CSV: row 2 has more cells than the header, which has {len(table.columns)}",
            where=uri,
            rule=RULE,
            remedy=REMEDY,
        )
    columns = [column.strip() for column in next(csv.reader(io.StringIO(text)))]
    if repeated := sorted({column for column in columns if columns.count(column) > 1}):
        raise problem(
            f"columns stand in the header more than once: {', '.join(map(quote, repeated))}",
            where=f"{uri}, header",
            rule="a column's name stands in the header once",
            remedy="rename or remove the others",
        )
    table.columns = pd.Index(columns)
    table.index = pd.RangeIndex(2, len(table) + 2)
    return table


def _json_lines(text: str, uri: str) -> dict[int, dict[str, str]]:
    """Objects of texts by their line; numbers and truth values become texts.

    Raises:
        Problems: naming every line that is no such object.
    """
    checks = Checks()
    rows = {}
    for number, line in enumerate(io.StringIO(text, newline=None), 1):  # splitlines would split texts at U+2028
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
            json.dumps(row, ensure_ascii=False, allow_nan=False).encode()  # neither NaN nor half a surrogate pair
        except (ValueError, RecursionError) as error:
            row, what = None, f"is no JSON: {error}"
        else:
            what = "is no object whose values are texts, numbers, true or false"
        if isinstance(row, dict) and not any(isinstance(value, (dict, list)) for value in row.values()):
            rows[number] = {name.strip(): _cell(value) for name, value in row.items()}
            continue
        checks.add(
            f"line {number} {what}",
            where=f"{uri}, line {number}",
            rule="JSONL: one object a line, the columns' names with their texts",
            remedy="write it with a JSON library, one json.dumps(row) a line",
        )
    checks.raise_if_any()
    return rows


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)


def read_bytes(uri: str) -> bytes:
    """The content of a file.

    Raises:
        Problems: when it cannot be read; says what was tried.
    """
    import fsspec

    try:
        with fsspec.open(uri, "rb") as file:
            return file.read()
    except FileNotFoundError:
        what, remedy = "no such file", "correct the path; on the cluster the workspace is the only disk the step sees"
    except IsADirectoryError:
        what, remedy = "this is a folder", "name the file in it"
    except PermissionError as error:
        what, remedy = f"no permission to read it: {error.strerror}", "make it readable for group 0"
    except ImportError as error:
        what, remedy = f"no reader for this kind of address: {error}", "install the package, or copy the file"
    except ValueError as error:
        what, remedy = f"no usable address: {error}", "use a path, file:// or https://"
    except OSError as error:
        what, remedy = f"cannot be read: {error}", "check the address and the connection, then run again"
    raise problem(what, where=uri or "an empty address", rule="data and questions are readable files", remedy=remedy)
