"""What several of the fast tests need."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from components.ingest_sdg.core import ingest_sdg
from components.ingest_sdg.report import IngestReport
from components.shared.problems import Problem, Problems
from tests.workspaces import Workspace


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


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")
