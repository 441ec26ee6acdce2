"""Parquet files, read in batches of rows."""

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data.texts import MAX_COLUMNS
from components.shared.problems import problem, quote

if TYPE_CHECKING:
    import pyarrow.parquet as pq

ROWS_AT_ONCE = 512


def columns(path: Path, shown: str) -> list[str]:
    """The names of a file's columns.

    Raises:
        Problems: when it is no Parquet file.
    """
    with _open(path, shown) as file:
        return _names(file)


def rows(path: Path, shown: str, names: Sequence[str], longest: int) -> Iterator[tuple[int, list[str]]]:
    """The rows by their number from 1, with the cells of the named columns.

    Args:
        longest: characters of a cell.

    Raises:
        Problems: when it cannot be read to its end.
    """
    with _open(path, shown) as file:
        found = _names(file)
        if repeated := [name for name in names if found.count(name) > 1]:
            raise ValueError(f"the column {quote(repeated[0])} is there more than once")
        stored = [file.schema_arrow.names[found.index(name)] for name in names]
        for name in stored:
            _check_type(name, file.schema_arrow.field(name).type)
        number = 0
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=stored, use_threads=False):
            for cells in zip(*(batch.column(name) for name in stored), strict=True):
                number += 1
                row = [_text(cell.as_py()) for cell in cells]
                if any(len(text) > longest for text in row):
                    raise ValueError(f"row {number} has a string of more than {longest:,} characters")
                yield number, row


@contextlib.contextmanager
def _open(path: Path, shown: str) -> Iterator["pq.ParquetFile"]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError) as error:
        said = "a string is not UTF-8" if isinstance(error, UnicodeDecodeError) else " ".join(str(error).split())[:300]
        raise problem(
            f"the Parquet file cannot be read: {said or type(error).__name__}",
            where=shown,
            rule="the columns for questions, answers and judgments hold strings, numbers, or true and false",
            remedy="copy it again, or write it again with these columns as strings",
        ) from None


def _names(file: "pq.ParquetFile") -> list[str]:
    names = [name.strip() for name in file.schema_arrow.names]
    if len(names) > MAX_COLUMNS:
        raise ValueError(f"it has {len(names)} columns, at most {MAX_COLUMNS} are read")
    return names


def _check_type(name: str, kind: Any) -> None:
    from pyarrow import types

    held = kind.value_type if types.is_dictionary(kind) else kind
    texts = (types.is_string, types.is_large_string, types.is_string_view)
    others = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
    if not any(is_one(held) for is_one in (*texts, *others)):
        raise ValueError(f"the column {quote(name)} holds {quote(held)}")


def _text(cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    if cell is None or cell != cell:  # NaN is how pandas writes that there is none
        return ""
    if isinstance(cell, float) and math.isinf(cell):
        raise ValueError("a number is infinite")
    return json.dumps(cell, default=str).strip('"')
