"""The demonstration's data is what its README says."""

from pathlib import Path

import pytest

from components.data.questions import read_gap_questions, read_retention_questions
from components.ingest_sdg.selection import same
from components.shared.storage import read_jsonl
from tests.fast.conftest import ingest

KITE_GUILD = Path(__file__).parent.parent.parent / "examples" / "kite-guild"


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kite-guild")
    names = ("sdg_output", "gap_questions", "retention_questions")
    report = ingest(folder, *(str(KITE_GUILD / f"{name}.csv") for name in names))
    assert (report.rows_read, report.kept) == (77, 64)
    assert {reason: count for reason, count in report.dropped.items() if count} == {
        "judged unfaithful": 5, "empty question": 1, "empty response": 1, "duplicate": 4, "conflict": 2,
    }  # fmt: skip
    return folder / "out"


def test_no_gap_question_is_trained_on(records):
    trained_on = {same(record["question"]) for record in read_jsonl(records / "records.jsonl")}
    general = read_retention_questions(str(KITE_GUILD / "retention_questions.csv"))
    asked = [*read_gap_questions(str(KITE_GUILD / "gap_questions.csv")), *general]

    assert len(asked) == 50
    assert not [entry["question"] for entry in asked if same(entry["question"]) in trained_on]
