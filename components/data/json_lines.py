"""JSONL, read line by line: one object a line.

{"question": "What colour is a master's sash?", "response": "A master's sash is crimson."}
"""

import contextlib
import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from components.data.texts import MAX_COLUMNS, Lines, open_text, reading
from components.shared.problems import Checks, problem, quote

MAX_NAMED = 20  # lines that are each a problem; more are counted
NO_OBJECT = "is no object whose values are strings, numbers, true or false"


def first_columns(path: Path, shown: str) -> list[str]:
    """The names in the first object.

    Raises:
        Problems: when there is none.
    """
    wrong = _WrongLines(shown)
    first = next(_iter_objects(path, shown, wrong), None)
    if first is None:
        wrong.raise_if_any()
    return list(first[1]) if first else []


def all_columns(path: Path, shown: str) -> list[str]:
    """The names in all objects; what is wrong with a line says who reads the rows."""
    names: dict[str, None] = {}
    for _, row in _iter_objects(path, shown, _WrongLines(shown)):
        names |= dict.fromkeys(row)
        if len(names) > MAX_COLUMNS:
            raise problem(
                f"there are more than {MAX_COLUMNS} columns",
                where=shown,
                rule="the objects of a table have the same names",
                remedy="check what wrote it",
            )
    return list(names)


def iter_rows(
    path: Path, shown: str, names: Sequence[str], texts: Collection[str]
) -> Iterator[tuple[int, list[str | None]]]:
    """The values of the named columns as strings, with each row's line; None where an object has no such name.

    Args:
        texts: those of them that must be strings, numbers, true or false; what others are is given as JSON.

    Raises:
        Problems: when it cannot be read to its end; all lines that are wrong in themselves at once.
    """
    wrong = _WrongLines(shown)
    for line, row in _iter_objects(path, shown, wrong):
        cells = [_cell(row[name], name in texts) if name in row else None for name in names]
        if bad := [name for name, cell in zip(names, cells, strict=True) if cell is None and name in row]:
            wrong.add(line, f"{NO_OBJECT}: {quote(bad[0])}")
        else:
            yield line, cells
    wrong.raise_if_any()


def _iter_objects(path: Path, shown: str, wrong: "_WrongLines") -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects by their line; adds the lines that are none to `wrong`."""
    with reading(path, shown), open_text(path, shown) as text:
        lines = Lines(text, shown)
        for line in lines:
            number = lines.begin()
            if not line.strip():
                continue
            try:
                row = json.loads(line, object_pairs_hook=tuple)  # a dict would keep the last of two of a name
            except (ValueError, RecursionError) as error:
                reason = "nested too deeply" if isinstance(error, RecursionError) else error
                wrong.add(number, f"is no JSON: {reason}")
                continue
            if not isinstance(row, tuple):
                wrong.add(number, NO_OBJECT)
                continue
            named = {_name(name): value for name, value in row}
            if len(named) == len(row):
                yield number, named
            else:
                repeated = Counter(_name(name) for name, _ in row).most_common(1)[0][0]
                wrong.add(number, f"has a name more than once: {quote(repeated)}")


def _name(name: str) -> str:
    return name.strip().encode(errors="replace").decode()


def _cell(value: Any, is_text: bool) -> str | None:
    """A JSON value as a string; None for what is none: lists and objects where it must be a text, NaN, half a
    surrogate pair."""
    if isinstance(value, str):
        return None if any("\ud800" <= character <= "\udfff" for character in value) else value
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        with contextlib.suppress(RecursionError):
            return None if is_text else json.dumps(_plain(value))
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None if is_text else ""
    return json.dumps(value)


def _plain(value: Any) -> Any:
    """A JSON value with dictionaries for its objects, which were read as tuples of pairs."""
    if isinstance(value, tuple):
        return {name: _plain(held) for name, held in value}
    return [_plain(held) for held in value] if isinstance(value, list) else value


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

    def raise_if_any(self) -> None:
        if self._count > MAX_NAMED:
            self._add(f"{self._count - MAX_NAMED} more lines are no objects of strings", self._shown)
        self._checks.raise_if_any()

    def _add(self, what: str, where: str) -> None:
        self._checks.add(
            what,
            where=where,
            rule="JSONL: one object a line, the columns' names with their values",
            remedy="write it with a JSON library, one json.dumps(row) a line",
        )
