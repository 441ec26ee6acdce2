"""What an evaluation leaves for programs: its summary, its sentence, and copies for the dashboard."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from components.evaluate import report, words
from components.run.evaluation import Summary
from components.run.findings import FAILED, NOT_SHOWN, Condition, Gate
from components.run.statistics import compare
from tests.report_page import APPROACHES, HOSTILE, TRAINING, hostile_evaluation, read, write
from tests.run_records import AGREEMENT, evaluation, result

DOCUMENTATION = Path(__file__).parent.parent.parent / "docs" / "evaluation.md"
CLOSED = [result(False, True)]


def test_summary_can_be_read_back_and_equals_what_was_found(tmp_path: Path) -> None:
    found = hostile_evaluation()
    written = write(tmp_path, found, TRAINING)
    read_back = Summary.read(tmp_path / "out")
    assert read_back == written
    assert read_back.evaluation == found
    assert [one.base.answer for one in read_back.evaluation.gap_answers] == [f"said {text}" for text in HOSTILE]
    assert dataclasses.asdict(read_back)["training"] == TRAINING
    assert (read_back.schema, read_back.verdict, read_back.seconds) == (report.SCHEMA, words.verdict(found), 1.5)
    assert read_back.report_path == str(tmp_path / "out" / "report.html")
    assert words.date(read_back.date) in read(tmp_path).text


def test_date_is_readable() -> None:
    assert words.date("2026-11-08T09:05:59+00:00") == "8 November 2026, 09:05 UTC"


def names_in(value: Any) -> set[str]:
    """The fields of a JSON value, at any depth."""
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return (set(value) if isinstance(value, dict) else set()).union(*map(names_in, below))


def test_documented_fields_of_the_summary_are_those_that_it_has(tmp_path: Path) -> None:
    write(tmp_path, hostile_evaluation(), TRAINING)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    _, _, section = DOCUMENTATION.read_text(encoding="utf-8").partition("`summary.json`:")
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert len(rows) > 10
    listed = {name.removeprefix("evaluation.") for row in rows for name in re.findall(r"`([\w.]+)`", row.split("|")[1])}
    documented = {name.removeprefix("evaluation.") for row in rows for name in re.findall(r"`([\w.]+)`", row)}
    assert listed == (set(summary) | set(summary["evaluation"])) - {"evaluation"}
    names = {*APPROACHES, *HOSTILE, *AGREEMENT.languages, "evaluation"}
    assert documented - {"training_report.json"} == names_in({**summary, "training": {}, "metrics": {}}) - names


def test_copies_are_the_report_once_more(tmp_path: Path) -> None:
    copies = {"html": tmp_path / "kfp" / "page", "markdown": tmp_path / "kfp" / "summary"}
    write(tmp_path, hostile_evaluation(), copies=copies)
    for name, copy in (("report.html", copies["html"]), ("report.md", copies["markdown"])):
        assert copy.read_bytes() == (tmp_path / "out" / name).read_bytes()


def unmet(name: str, state: str) -> Condition:
    return Condition(name=name, state=state, finding=f"{name} is {state}", advice=[])


GENERAL = {"choices": compare([True] * 8, [True] * 7 + [False]), "open": compare([True, False], [True, True])}


@pytest.mark.parametrize(
    ("gap", "changes", "sentence"),
    [
        (
            [result(False, True), result(False, True), result(False, False), result(True, False)],
            {},
            "Good: closed 2 of the 3 gap questions on which the base model is graded wrong, 1 regressed (p = 1.000)",
        ),
        (
            CLOSED,
            GENERAL,
            "Good: closed 1 of the 1 gap questions on which the base model is graded wrong, 0 regressed (p = 1.000); "
            "general questions: multiple choice -12.5 points (95 % interval -52.7 to +31.2), "
            "open-ended +50.0 points (95 % interval -77.6 to +98.7)",
        ),
        (
            CLOSED,
            GENERAL | {"gate": Gate(conditions=[unmet("one", FAILED), unmet("two", NOT_SHOWN)])},
            "Not good: one is failed; two is not shown; closed 1 of the 1 gap questions on which the base model is "
            "graded wrong, 0 regressed (p = 1.000)",
        ),
        ([result(None, True)], {"gate": Gate(conditions=[unmet("gap", NOT_SHOWN)])},
         "Not shown: gap is not shown; no gap question could be compared"),
    ],
)  # fmt: skip
def test_verdict_is_a_sentence(gap: list[Any], changes: dict[str, Any], sentence: str) -> None:
    by = "; graded by the local judge granite, kappa 0.75 (95 % interval 0.64 to 0.85)"
    assert words.verdict(evaluation(gap, **changes)) == sentence + by


def test_questions_and_answers_are_those_of_the_chat_rows() -> None:
    system = {"role": "system", "content": "s"}
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows = [{"messages": messages}, {"messages": [system, *messages]}]
    assert report.questions_and_answers(rows) == [("q", "a"), ("q", "a")]
