"""The demonstration's data is what its README says."""

from pathlib import Path

import pytest

from components.data.questions import read_gap_questions, read_retention_questions
from components.ingest_sdg.core import ingest_sdg
from components.ingest_sdg.selection import same
from components.shared.storage import read_jsonl

KITE_GUILD = Path(__file__).parent.parent.parent / "examples" / "kite-guild"


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kite-guild")
    report = ingest_sdg(
        data=str(KITE_GUILD / "sdg_output.csv"),
        questions=str(KITE_GUILD / "gap_questions.csv"),
        retention_questions=str(KITE_GUILD / "retention_questions.csv"),
        output=folder / "records",
        review=folder / "review.html",
        options={},
    )
    assert (report.rows_read, report.kept) == (77, 64)
    assert {reason: count for reason, count in report.dropped.items() if count} == {
        "judged unfaithful": 5, "empty question": 1, "empty response": 1, "duplicate": 4, "conflict": 2,
    }  # fmt: skip
    return folder / "records"


def test_no_question_that_is_asked_is_learnt(records):
    learnt = {same(record["question"]) for record in read_jsonl(records / "records.jsonl")}
    general = read_retention_questions(str(KITE_GUILD / "retention_questions.csv"))
    asked = [*read_gap_questions(str(KITE_GUILD / "gap_questions.csv")), *general]

    assert len(asked) == 50
    assert not [entry["question"] for entry in asked if same(entry["question"]) in learnt]


def test_the_other_approaches_did_as_in_the_workshop():
    gaps = read_gap_questions(str(KITE_GUILD / "gap_questions.csv"))

    assert len(gaps) == 10
    assert sum(entry["others"]["rag"] for entry in gaps) == 6
    assert sum(entry["others"]["best_of_n"] for entry in gaps) == 8


def test_half_of_the_demonstrations_general_questions_are_multiple_choice():
    questions = read_retention_questions(str(KITE_GUILD / "retention_questions.csv"))

    assert [len(entry["choices"]) for entry in questions] == [4] * 20 + [0] * 20
