"""Parquet files, read by a process of its own with a bound on memory and time.

A Parquet file says itself how much memory each of its pages takes, in fields that may hold anything, and it is read by
C++. In another process a file that lies is an error, and not the end of the step.

    python -m components.data.parquet FILE LONGEST [COLUMN ...]

prints JSON lines: the names of all columns; then, when columns are asked for, their cells, a list a row. A line that is
an object says what is wrong.
"""

import json
import math
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from components.shared.problems import problem

MAX_MEMORY_BYTES = 3 << 29  # addresses, of which the libraries take a third
MAX_PROCESSOR_SECONDS = 900
ROWS_AT_ONCE = 512
MAX_COLUMNS = 20_000
RULE = "a Parquet file whose columns for questions, answers and judgments hold texts, numbers, or true and false"


def columns(path: Path, shown: str) -> list[str]:
    """The names of a file's columns.

    Raises:
        Problems: when it is no Parquet file.
    """
    return next(_lines(path, shown, 0, ()))


def rows(path: Path, shown: str, names: Sequence[str], longest: int) -> Iterator[tuple[int, list[str]]]:
    """The rows by their number from 1, with the cells of the named columns.

    Args:
        longest: characters of a cell.

    Raises:
        Problems: when it cannot be read to its end.
    """
    lines = _lines(path, shown, longest, names)
    next(lines)
    return enumerate(lines, 1)


def _lines(path: Path, shown: str, longest: int, names: Sequence[str]) -> Iterator[list[str]]:
    command = [sys.executable, "-m", __name__, str(path), str(longest), *names]
    said = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8") as process:  # noqa: S603 - our own program
        assert process.stdout is not None
        try:
            for line in process.stdout:
                value = json.loads(line) if line.endswith("\n") else None  # None: it died while it wrote
                if isinstance(value, dict):
                    said = value["wrong"]
                elif value is not None:
                    yield value
        except GeneratorExit:  # nobody reads on
            process.kill()
            raise
    if said or process.returncode:
        raise problem(
            f"the Parquet file cannot be read: {said or 'its reader died'}",
            where=shown,
            rule=f"{RULE}; it is read with at most {MAX_MEMORY_BYTES / 2**30:g} GiB",
            remedy="copy or make it again, with row groups of at most some 100 MiB",
        )


# ArrowInvalid is a ValueError; the others are what Arrow raises for a damaged file or a kind of column it cannot read.
ARROW_ERRORS = (OSError, ValueError, NotImplementedError, TypeError, KeyError)


def main() -> None:
    """The process: print what is in the file."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_PROCESSOR_SECONDS, MAX_PROCESSOR_SECONDS))
    path, longest, *names = sys.argv[1:]
    try:
        _print_file(path, int(longest), names)
    except MemoryError:
        _print({"wrong": "it takes more memory than there is"})
    except UnicodeDecodeError:
        _print({"wrong": "a text is not UTF-8"})
    except ARROW_ERRORS as error:
        _print({"wrong": " ".join(str(error).split())[:300] or type(error).__name__})
    sys.stdout.flush()


def _print_file(path: str, longest: int, names: list[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    with pq.ParquetFile(path) as file:
        found = file.schema_arrow.names
        if len(found) > MAX_COLUMNS:
            raise ValueError(f"it has {len(found)} columns, at most {MAX_COLUMNS} are read")
        stripped = [name.strip() for name in found]
        if repeated := {name for name in names if stripped.count(name) > 1}:
            raise ValueError(f"the column {sorted(repeated)[0]} is there more than once")
        _print(stripped)
        if not names:
            return
        stored = dict(zip(stripped, found, strict=True))
        wanted = [stored[name] for name in names]
        types = pa.types
        texts = (types.is_string, types.is_large_string, types.is_string_view)
        readable = (*texts, types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
        for name in wanted:
            kind: Any = file.schema_arrow.field(name).type
            if pa.types.is_dictionary(kind):
                kind = kind.value_type
            if not any(is_one(kind) for is_one in readable):
                raise ValueError(f"the column {name} holds {kind}")
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=wanted, use_threads=False):
            for cells in zip(*(batch.column(name).to_pylist() for name in wanted), strict=True):
                row = [_text(cell) for cell in cells]
                if any(len(text) > longest for text in row):
                    raise ValueError(f"a text is longer than {longest:,} characters")
                _print(row)


def _text(cell: Any) -> str:
    if cell is None or cell != cell:  # NaN is how pandas writes that there is none
        return ""
    if isinstance(cell, float) and math.isinf(cell):
        raise ValueError("a number is infinite")
    return cell if isinstance(cell, str) else json.dumps(cell, default=str).strip('"')


def _print(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")


if __name__ == "__main__":
    main()
