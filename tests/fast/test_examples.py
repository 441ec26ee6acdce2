"""The demonstration's data is what its README says, and its last lines what was found."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from components.data.questions import read_gap_questions, read_retention_questions
from components.evaluate.overlap import contaminated
from components.evaluate.report import SCHEMA
from components.run.evaluation import Summary
from components.run.findings import FAILED, Condition, Gate
from components.run.training_options import TrainingOptions
from components.shared.storage import read_jsonl, write_json
from tests.fast.conftest import ingest
from tests.run_records import PLAN, REPORT, compared, evaluation, result

KITE_GUILD = Path(__file__).parent.parent.parent / "examples" / "kite-guild"


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kite-guild")
    names = ("sdg_output", "gap_questions", "retention_questions")
    report = ingest(folder, *(str(KITE_GUILD / f"{name}.csv") for name in names))
    assert (report.rows_read, report.kept) == (101, 88)
    assert {reason: count for reason, count in report.dropped.items() if count} == {
        "judged unfaithful": 5, "empty question": 1, "empty response": 1, "duplicate": 4, "conflict": 2,
    }  # fmt: skip
    return folder / "out"


def test_no_question_is_trained_on_or_asked_twice(records):
    trained_on = [(record["question"], record["response"]) for record in read_jsonl(records / "records.jsonl")]
    reported = [
        *read_gap_questions(str(KITE_GUILD / "gap_questions.csv")),
        *read_retention_questions(str(KITE_GUILD / "retention_questions.csv")),
    ]
    tuning = [
        *read_gap_questions(str(KITE_GUILD / "tuning_questions.csv")),
        *read_retention_questions(str(KITE_GUILD / "tuning_retention_questions.csv")),
    ]
    asked = [[entry["question"] for entry in questions] for questions in (reported, tuning)]

    assert [len(questions) for questions in asked] == [44 + 40, 12 + 20]
    assert not contaminated([*asked[0], *asked[1]], trained_on)
    assert not contaminated(asked[1], [(question, "") for question in asked[0]])


def summary_of(run: Path, method: str, date: str, gap: list, general: list) -> None:
    """A run's summary: how the adapted model answers; the base model knows all general questions and nothing else."""
    plan = dataclasses.replace(PLAN, options=TrainingOptions(method=method).as_json())
    asked = [result(False, right, f"Gap {place}?") for place, right in enumerate(gap)]
    kept = [result(True, right, f"General {place}?") for place, right in enumerate(general)]
    failed = [Condition(name=name, state=FAILED, finding=f"{name} failed", advice=["try less"]) for name in "abcde"]
    found = evaluation(
        asked, open=compared([(True, right) for right in general]), open_answers=kept, gate=Gate(conditions=failed)
    )
    summary = Summary(
        schema=SCHEMA, date=date, verdict="", base="base", adapted="adapted", report_path=f"{run}/report.html",
        evaluation_key="", training=dataclasses.replace(REPORT, plan=plan), seconds=1.0, good=False,
        metrics={}, evaluation=found,
    )  # fmt: skip
    write_json(run / "summary.json", dataclasses.asdict(summary))


def story(workspace: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, KITE_GUILD.parent / "story.py", workspace]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_story_has_both_methods_newest_results_in_25_lines(tmp_path):
    summary_of(tmp_path / "runs" / "old", "osft", "2026-11-27T09:00:00+00:00", [False, False], [False, False])
    summary_of(tmp_path / "runs" / "osft", "osft", "2026-11-28T09:00:00+00:00", [True, True], [True, True])
    summary_of(tmp_path / "runs" / "sft", "sft", "2026-11-26T09:00:00+00:00", [True, False], [True, False])
    lines = story(tmp_path).stdout.splitlines()

    assert 15 < len(lines) <= 25
    assert lines[3].split(", ")[1].split()[:4] == ["2", "0", "2", "+100"]
    assert lines[3].split(")")[1].split()[:2] == ["1", "+50"]
    assert [line for line in lines if line.startswith(("Learnt", "Forgot"))] == [
        "Learnt: Gap 0? (a master)",
        "Forgot: General 1? (a master)",
    ]
    assert "OSFT: a failed; b failed; c failed; d failed; e failed" in lines
    assert "To try: try less" in lines


def test_story_without_a_method_says_what_is_missing(tmp_path):
    summary_of(tmp_path / "runs" / "osft", "osft", "2026-11-28T09:00:00+00:00", [True], [True])
    told = story(tmp_path)
    assert (told.returncode, told.stderr) == (
        1,
        f"error: {tmp_path} has no result of the method sft; type: make demo\n",
    )
