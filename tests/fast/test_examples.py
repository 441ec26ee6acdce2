"""The demonstration's data is what its README says."""

from pathlib import Path

import pytest

from components.data.questions import read_gap_questions, read_retention_questions
from components.evaluate.overlap import contaminated
from components.shared.storage import read_jsonl
from tests.fast.conftest import ingest

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
    reported, tuning = (read_gap_questions(str(KITE_GUILD / f"{name}_questions.csv")) for name in ("gap", "tuning"))
    general = read_retention_questions(str(KITE_GUILD / "retention_questions.csv"))
    asked = [[entry["question"] for entry in questions] for questions in (reported, tuning, general)]

    assert [len(questions) for questions in asked] == [44, 12, 40]
    assert not contaminated([question for questions in asked for question in questions], trained_on)
    assert not contaminated(asked[1], [(question, "") for question in asked[0]])
    assert {entry["reference"] for entry in tuning} <= {entry["reference"] for entry in reported}
