"""What several of the fast tests need."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from components.ingest_sdg.core import ingest_sdg
from components.ingest_sdg.report import IngestReport
from components.shared.problems import Problem, Problems
from tests.workspaces import Workspace

NAMES = ("question", "response", "faithfulness_judgment")


def problems_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Problem, ...]:
    """What a call finds wrong; fails when it finds nothing."""
    with pytest.raises(Problems) as caught:
        function(*args, **kwargs)
    return caught.value.problems


def only_problem_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Problem:
    """The one thing that a call finds wrong."""
    (found,) = problems_of(function, *args, **kwargs)
    return found


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A CSV as a library writes it; gives the path as the text that users pass."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def ingest(folder: Path, data: str, questions: str, retention_questions: str = "", **options: Any) -> IngestReport:
    """The step `ingest_sdg`, with what it makes in a folder's `out` and `review.html`."""
    addresses = {"data": data, "questions": questions, "retention_questions": retention_questions}
    return ingest_sdg(**addresses, output=folder / "out", review=folder / "review.html", options=options)


@pytest.fixture
def ingest_data(tmp_path: Path) -> Callable[..., IngestReport]:
    """Runs the step on data at an address, with one gap question: Which bird?"""
    questions = write_csv(tmp_path / "gap.csv", ("question", "reference"), [("Which bird?", "heron")])

    def run(data: Path | str, name: str = "out", **options: Any) -> IngestReport:
        addresses = {"data": str(data), "questions": questions, "retention_questions": questions}
        return ingest_sdg(**addresses, output=tmp_path / name, review=tmp_path / "review.html", options=options)

    return run


def json_lines(rows: Iterable[Sequence[str]], names: Sequence[str] = NAMES) -> str:
    """Rows as JSONL, with more names than are needed."""
    more = {"document": "x\ny", "metadata": {"n": [1, 2]}, "score": float("nan")}
    return "".join(json.dumps({**more, **dict(zip(names, row, strict=True))}) + "\n" for row in rows)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")
