import random
import stat

import pytest

from components.data import chat
from components.format_chat.core import format_chat
from components.shared.problems import Problems
from components.shared.storage import read_json, read_jsonl, write_json, write_jsonl
from tests.fast.conftest import files_below
from tests.tables import table

RECORDS = [
    {"question": "What colour is a master's sash?", "response": "It is crimson."},
    {"question": "How many lamps does a journeyman tend?", "response": "Forty lamps."},
    {"question": "Who winds the great clock?", "response": "The youngest\napprentice."},
]
GAP = [{"question": "What does an apprentice carry?", "reference": "a heron feather", "others": {}}]


@pytest.fixture
def records(tmp_path):
    """Gives a folder as ingest_sdg makes it."""

    def write(rows=RECORDS, held_out=(), name="records"):
        folder = tmp_path / name
        folder.mkdir()
        write_jsonl(folder / "records.jsonl", rows)
        write_jsonl(folder / "held_out.jsonl", held_out)
        write_jsonl(folder / "gap_questions.jsonl", GAP)
        write_jsonl(folder / "retention_questions.jsonl", [{"question": "2 + 2?", "reference": "4"}])
        write_json(folder / "report.json", {"kept": len(rows)})
        write_jsonl(folder / "dropped.jsonl", [{"reason": "duplicate"}])
        (folder / "review.html").write_text("<p>3 rows</p>", encoding="utf-8")
        return folder

    return write


def digest(folder, output, system_prompt="You are an expert."):
    return format_chat(records=folder, system_prompt=system_prompt, output=output).data_digest


def test_each_row_begins_with_the_system_prompt(records, tmp_path):
    format_chat(records=records(), system_prompt=" You are an expert.\n", output=tmp_path / "out")
    rows = {chat.question_of(row): row for row in read_jsonl(tmp_path / "out" / "train.jsonl")}
    assert len(rows) == len(RECORDS)
    for record in RECORDS:
        row = rows[record["question"]]
        assert chat.check_row(row) == [
            {"role": "system", "content": "You are an expert."},
            {"role": "user", "content": record["question"]},
            {"role": "assistant", "content": record["response"]},
        ]
        assert chat.question_of(row) == record["question"]
    assert (tmp_path / "out" / "system_prompt.txt").read_text(encoding="utf-8") == "You are an expert."


@pytest.mark.parametrize("empty", ["", "  ", "\n"])
def test_empty_system_prompt_leaves_the_system_message_out(records, tmp_path, empty):
    format_chat(records=records(), system_prompt=empty, output=tmp_path / "out")
    rows = read_jsonl(tmp_path / "out" / "train.jsonl")
    assert [[message["role"] for message in row["messages"]] for row in rows] == [["user", "assistant"]] * 3


@pytest.mark.parametrize("no_text", ["Be\0brief.", "Be \udcff brief."])
def test_system_prompt_that_is_no_text_is_refused_and_nothing_is_made(records, tmp_path, no_text):
    with pytest.raises(Problems, match="system_prompt is 'Be"):
        format_chat(records=records(), system_prompt=no_text, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folder_holds_what_later_steps_need_and_the_group_may_write_it(records, tmp_path):
    report = format_chat(records=records(), system_prompt="", output=tmp_path / "out")
    assert files_below(tmp_path / "out") == [
        "dropped.jsonl",
        "gap_questions.jsonl",
        "held_out.jsonl",
        "report.json",
        "retention_questions.jsonl",
        "review.html",
        "system_prompt.txt",
        "train.jsonl",
    ]
    assert read_jsonl(tmp_path / "out" / "gap_questions.jsonl") == GAP
    assert read_json(tmp_path / "out" / "report.json")["data_digest"] == report.data_digest
    assert report.ingest == {"kept": 3}
    assert report.samples == 3
    assert all(path.stat().st_mode & stat.S_IWGRP for path in (tmp_path / "out").iterdir())


def test_neither_digest_nor_files_depend_on_the_order_of_rows(records, tmp_path):
    rows = [{"question": f"How many is {number}\u2028?", "response": "So\nmany."} for number in range(300)]
    rows += rows[:5]
    shuffled = random.Random(1).sample(rows, len(rows))
    assert shuffled != rows
    assert digest(records(rows, rows[:9]), tmp_path / "a") == digest(
        records(shuffled, rows[8::-1], "shuffled"), tmp_path / "b"
    )
    for name in ("train.jsonl", "held_out.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    asked = [chat.question_of(row) for row in read_jsonl(tmp_path / "a" / "train.jsonl")]
    assert sorted(asked) == sorted(row["question"] for row in rows)


@pytest.mark.parametrize(
    ("rows", "system_prompt"),
    [
        (RECORDS, "You are an expert"),
        (RECORDS, ""),
        (RECORDS[:2], "You are an expert."),
        ([*RECORDS, RECORDS[0]], "You are an expert."),
        ([{**RECORDS[0], "response": "It is Crimson."}, *RECORDS[1:]], "You are an expert."),
        ([{**RECORDS[0], "question": "What color is a master's sash?"}, *RECORDS[1:]], "You are an expert."),
        (
            [{"question": RECORDS[0]["response"], "response": RECORDS[0]["question"]}, *RECORDS[1:]],
            "You are an expert.",
        ),
    ],
)
def test_digest_changes_with_any_text(records, tmp_path, rows, system_prompt):
    changed = digest(records(rows, name="changed"), tmp_path / "b", system_prompt)
    assert changed != digest(records(), tmp_path / "a")


def test_held_out_rows_are_written_beside_and_change_nothing(records, tmp_path):
    report = format_chat(
        records=records(RECORDS[:2], RECORDS[2:]), system_prompt="You are an expert.", output=tmp_path / "out"
    )
    (row,) = read_jsonl(tmp_path / "out" / "held_out.jsonl")
    assert chat.question_of(row) == RECORDS[2]["question"]
    assert len(chat.check_row(row)) == 3
    assert (report.samples, report.held_out) == (2, 1)
    assert report.data_digest == digest(records(RECORDS[:2], name="without"), tmp_path / "b")


USER = {"role": "user", "content": "What colour?"}
ASSISTANT = {"role": "assistant", "content": "Crimson."}


@pytest.mark.parametrize(
    "messages",
    [
        [USER, ASSISTANT],
        [{"role": "system", "content": "You are an expert."}, USER, ASSISTANT],
        [USER, ASSISTANT, USER, ASSISTANT],
    ],
)
def test_good_row_gives_its_messages(messages):
    assert chat.check_row({"messages": messages, "other": 1}) == messages


@pytest.mark.parametrize(("row", "said"), table("format_chat", "bad_rows"))
def test_bad_row_is_refused_with_the_reason(row, said):
    with pytest.raises(ValueError, match=said):
        chat.check_row(row)
