"""Parquet and Arrow files, read in batches of rows.

An Arrow file is a stream, as `save_to_disk` of datasets writes it, or the random-access form (Feather).
"""

import contextlib
import json
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data.texts import MAX_COLUMNS
from components.shared.problems import problem, quote

if TYPE_CHECKING:
    import pyarrow as pa

MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}
"""How a file begins, and what it is; a stream begins with the mark of its first message."""
ROWS_AT_ONCE = 512


def columns(path: Path, shown: str) -> list[str]:
    """The names of a file's columns.

    Raises:
        Problems: when it is neither a Parquet nor an Arrow file.
    """
    with _open(path, shown) as (schema, _):
        return _names(schema)


def rows(
    path: Path, shown: str, names: Sequence[str], texts: Collection[str], longest: int
) -> Iterator[tuple[int, list[str]]]:
    """The rows by their number from 1, with the cells of the named columns.

    Args:
        texts: those of them that must hold strings, numbers, or true and false; what others hold is given as JSON.
        longest: characters of a cell.

    Raises:
        Problems: when it cannot be read to its end.
    """
    with _open(path, shown) as (schema, batches):
        found = _names(schema)
        if repeated := [name for name in names if found.count(name) > 1]:
            raise ValueError(f"the column {quote(repeated[0])} is there more than once")
        places = [found.index(name) for name in names]
        for name, place in zip(names, places, strict=True):
            if name in texts:
                _check_type(name, schema.field(place).type)
        number = 0
        for batch in batches(places):
            for cells in zip(*batch, strict=True):
                number += 1
                row = [_text(cell.as_py()) for cell in cells]
                if any(len(text) > longest for text in row):
                    raise ValueError(f"row {number} has a string of more than {longest:,} characters")
                yield number, row


@contextlib.contextmanager
def _open(path: Path, shown: str) -> Iterator[tuple["pa.Schema", Any]]:
    """A file's schema, and a function that gives its batches: the columns at the places that it is given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        start = file.read(8)
    kind = next(kind for magic, kind in MAGIC.items() if start.startswith(magic))
    try:
        if kind == "parquet":
            with pq.ParquetFile(path) as parquet:
                yield parquet.schema_arrow, lambda places: _of_parquet(parquet, places)
        else:
            with pa.memory_map(str(path)) as mapped:
                opened = pa.ipc.open_file(mapped) if start.startswith(b"ARROW1") else pa.ipc.open_stream(mapped)
                yield opened.schema, lambda places: _of_arrow(opened, places)
    except (pa.ArrowException, OSError, ValueError) as error:
        said = "a string is not UTF-8" if isinstance(error, UnicodeDecodeError) else " ".join(str(error).split())[:300]
        raise problem(
            f"the {kind.capitalize()} file cannot be read: {said or type(error).__name__}",
            where=shown,
            rule="the columns for questions, answers and judgments hold strings, numbers, or true and false",
            remedy="copy it again, or write it again with these columns as strings",
        ) from None


def _of_parquet(parquet: Any, places: Sequence[int]) -> Iterator[list["pa.Array"]]:
    names = [parquet.schema_arrow.names[place] for place in places]
    for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=names, use_threads=False):
        yield [batch.column(name) for name in names]


def _of_arrow(opened: Any, places: Sequence[int]) -> Iterator[list["pa.Array"]]:
    batches: Iterable[Any] = opened
    if not hasattr(opened, "read_next_batch"):  # the random-access form
        batches = (opened.get_batch(number) for number in range(opened.num_record_batches))
    for batch in batches:
        found = [batch.column(place) for place in places]
        for column in found:
            column.validate(full=True)  # what a file says about its strings' places is not to be trusted
        yield found


def _names(schema: "pa.Schema") -> list[str]:
    names = [name.strip() for name in schema.names]
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
    if isinstance(cell, list | dict):
        return json.dumps(cell, default=str)
    if cell is None or cell != cell:  # NaN is how pandas writes that there is none
        return ""
    if isinstance(cell, float) and math.isinf(cell):
        raise ValueError("a number is infinite")
    return json.dumps(cell, default=str).strip('"')
