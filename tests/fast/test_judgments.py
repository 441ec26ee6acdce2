"""Judgments in other words, beside explanations, and without any."""

import csv
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from components.ingest_sdg.core import check_data
from components.ingest_sdg.judgments import Judgments
from components.ingest_sdg.rows import Row
from components.run.data_options import DataOptions
from tests.fast.conftest import NAMES, json_lines, only_problem_of, problems_of, write_csv

with Path(__file__).with_name("judgments.csv").open(encoding="utf-8", newline="") as file:
    CASES = [(case["cell"].strip(), case["word"]) for case in csv.DictReader(file)]


@pytest.mark.parametrize(("cell", "word"), CASES)
def test_judgment_is_the_word_that_is_plain(cell: str, word: str) -> None:
    judgments = Judgments("data", DataOptions())

    accepted = judgments.accepts(Row(1, "q", "r", cell))

    assert dict(judgments.counts) == ({word: 1} if word else {})
    assert accepted == (word in ("YES", "TRUE", "PASS", "1"))
    assert judgments.explained == (bool(word) and cell.casefold().removesuffix(".0") != word.casefold())


def test_how_judgments_were_read_is_logged_and_stands_on_the_review_page(
    ingest_data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("a?", "x", "It says so. YES"), ("b?", "y", "no"), ("c?", "z", "YES")]
    report = ingest_data(write_csv(tmp_path / "data.csv", NAMES, rows))

    assert (report.judgments, report.explained_judgments) == ({"YES": 2, "NO": 1}, 1)
    page = (tmp_path / "review.html").read_text(encoding="utf-8")
    for shown in (capsys.readouterr().out, page):
        assert "judgments: 2 YES, 1 NO" in shown
        assert "in cells that hold more: 1; read is the word that is a sentence of its own" in shown


@pytest.mark.parametrize("unjudged", ["refuse", "keep"])
def test_missing_columns_and_unknown_judgments_are_told_at_once(
    ingest_data: Any, tmp_path: Path, unjudged: str
) -> None:
    rows = [("a?", "x", "YES"), ("b?", "y", "maybe")]
    data = write_csv(tmp_path / "data.csv", ("question", "antwort", "faithfulness_judgment"), rows)

    for read in (ingest_data, lambda data, **given: check_data(data, DataOptions(**given))):
        found = problems_of(read, data, unjudged=unjudged)
        assert [problem.what for problem in found] == [
            "column 'response' is missing",
            "unknown judgment 'maybe' in 1 of 2 rows",
        ]


def test_what_sdg_hub_writes_without_judgments_is_read_when_the_user_says_so(ingest_data: Any, tmp_path: Path) -> None:
    row = {"key_fact": "…", "question": "Who?", "response": " The heron.\n", "raw_key_fact_qa": ["a", "b"]}
    (tmp_path / "data.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")

    found = only_problem_of(ingest_data, tmp_path / "data.jsonl")
    assert "column 'faithfulness_judgment' is missing" in found.what
    assert '--data-option unjudged=keep (on a cluster: data_options={"unjudged": "keep"})' in found.remedy
    assert ingest_data(tmp_path / "data.jsonl", unjudged="keep").kept == 1


@pytest.mark.parametrize("first", [0, 1])
def test_each_object_is_judged_or_not_by_itself(ingest_data: Any, tmp_path: Path, first: int) -> None:
    rows = [{"question": "a?", "response": "x"}, {"question": "b?", "response": "y", "faithfulness_judgment": "NO"}]
    lines = [json.dumps(row) + "\n" for row in (rows[first], rows[1 - first])]
    (tmp_path / "data.jsonl").write_text("".join(lines), encoding="utf-8")

    report = ingest_data(tmp_path / "data.jsonl", unjudged="keep")

    assert (report.kept, report.dropped["judged unfaithful"]) == (1, 1)
    assert problems_of(ingest_data, tmp_path / "data.jsonl")


def test_null_is_no_judgment_that_anybody_gave(ingest_data: Any, tmp_path: Path) -> None:
    (tmp_path / "data").write_text('{"question": "a?", "response": "x", "faithfulness_judgment": null}\n')

    found = only_problem_of(ingest_data, tmp_path / "data", unjudged="keep")

    assert (found.what, found.remedy) == ("unknown judgment '' in 1 of 1 rows", "fill the cells, or take the rows out")


@pytest.mark.parametrize(
    ("judgment", "remedy"),
    [
        (
            "a b",
            "--data-option 'rejected_judgments=NO,FALSE,FAIL,0,a b' "
            '(on a cluster: data_options={"rejected_judgments": "NO,FALSE,FAIL,0,a b"})',
        ),
        ("a, b", "correct the rows"),
        ("x" * 1000, "correct the rows"),
    ],
)
def test_remedy_for_an_unknown_judgment_is_one_that_has_an_effect(
    ingest_data: Any, tmp_path: Path, judgment: str, remedy: str
) -> None:
    (tmp_path / "data").write_text(json_lines([("a?", "x", judgment)]), encoding="utf-8")

    found = only_problem_of(ingest_data, tmp_path / "data")

    assert found.remedy.endswith(remedy)
    assert len(str(found)) < 1000


def test_judgments_of_another_judge_are_accepted_and_rejected(ingest_data: Any, tmp_path: Path) -> None:
    rows = [{"question": f"{said}?", "response": "x", "faithfulness_judgment": said} for said in (True, False, "FALSE")]
    (tmp_path / "data").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    report = ingest_data(tmp_path / "data", accepted_judgments="true", rejected_judgments="False, fail")

    assert (report.kept, report.dropped["judged unfaithful"]) == (1, 2)


def test_judgments_count_where_there_are_some_although_others_have_none(ingest_data: Any, tmp_path: Path) -> None:
    (tmp_path / "rounds").mkdir()
    write_csv(tmp_path / "rounds" / "a.csv", NAMES, [("a?", "x", "YES"), ("b?", "y", "NO")])
    (tmp_path / "rounds" / "b.csv").write_text("question,response\nNew?,It is new.\n", encoding="utf-8")

    assert ingest_data(tmp_path / "rounds", unjudged="keep").dropped["judged unfaithful"] == 1


def test_unknown_judgments_are_not_held_whole() -> None:
    judgments = Judgments("data", DataOptions())

    tracemalloc.start()
    for number in range(200):
        judgments.accepts(Row(number, "q", "r", f"{number}{'x' * 100_000}"))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held < 100_000
