"""Questions: gap questions with other approaches' verdicts, general ones in full and in multiple choice."""

import json
from collections import Counter

import pytest

from components.data.questions import read_gap_questions, read_retention_questions
from components.grading.reference_rules import is_right, words
from components.ingest_sdg.selection import same
from tests.fast.conftest import only_problem_of, problems_of, write_csv
from tests.tables import table


@pytest.mark.parametrize("read", [read_gap_questions, read_retention_questions])
def test_every_bad_row_of_the_questions_is_named_at_once(tmp_path, read):
    path = write_csv(tmp_path / "q.csv", ("question", "reference"), [("a", ""), ("b", "x"), ("b", "y"), ("", "z")])
    assert [problem.where for problem in problems_of(read, path)] == [f"{path}, row {number}" for number in (2, 4, 5)]


def write_lines(path, *rows):
    """JSONL of rows; a text is written as it stands."""
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    return str(path)


def test_questions_in_json_lines_are_read(tmp_path):
    path = write_lines(
        tmp_path / "q.jsonl",
        {"question": "How many lamps?", "reference": 40, "rag": True, "best_of_n": "Wrong", "subject": "hall"},
        "",
        {"question": " How high?\u2028In all?", "reference": 3.5, "rag": False, "best_of_n": 1, "subject": None},
        {"best_of_n": 0, "rag": "yes", "reference": "yes", "question": 'Scha\u0308rpe, "rot"?'},
    )
    found = [(*(entry[name] for name in ("question", "reference", "subject")), entry["others"])
             for entry in read_gap_questions(path, {"rag": "approach", "best_of_n": "approach"})]  # fmt: skip
    assert found == [
        ("How many lamps?", "40", "hall", {"rag": True, "best_of_n": False}),
        ("How high?\u2028In all?", "3.5", "", {"rag": False, "best_of_n": True}),
        ('Schärpe, "rot"?', "yes", "", {"rag": True, "best_of_n": False}),
    ]


@pytest.mark.parametrize("text", ["{rows}", "\ufeff{rows}", "\n \n{rows}", "{crlf}", "{cr}"])
def test_json_lines_are_read_as_their_writer_meant_them(tmp_path, text):
    rows = '{"question": "a", "reference": "b"}\n{" question ": "c\x7f", "reference": "d\x85e"}\n'
    path = tmp_path / "q.jsonl"
    content = text.format(rows=rows, crlf=rows.replace("\n", "\r\n"), cr=rows.replace("\n", "\r"))
    path.write_bytes(content.encode())
    read = [(entry["question"], entry["reference"]) for entry in read_gap_questions(str(path))]
    assert read == [("a", "b"), ("c\x7f", "d\x85e")]


@pytest.mark.parametrize("read", [read_gap_questions, read_retention_questions])
def test_csv_and_json_lines_of_the_same_content_are_read_the_same(tmp_path, read):
    header = ("question", "reference", "subject")
    rows = [('a, "so"?', "007", ""), ("two\nlines?", "NA | null", "x"), ("Schärpe?", "true", "帯")]
    if read is read_gap_questions:
        header, rows = (*header, "rag"), [(*row, verdict) for row, verdict in zip(rows, "101", strict=True)]
    else:
        header += ("distractors", "statement")
        rows = [(*row, *more) for row, more in zip(rows, (("1 | 2", "It is {}."), ("", ""), ("", "")), strict=True)]
    lines = write_lines(tmp_path / "q.jsonl", *(dict(zip(header, row, strict=True)) for row in rows))
    found = read(lines)
    assert found == read(write_csv(tmp_path / "q.csv", header, rows))
    assert [entry["question"] for entry in found] == [row[0] for row in rows]


@pytest.mark.parametrize(("line", "what"), table("questions", "lines"))
def test_line_that_is_no_object_of_strings_is_named(tmp_path, line, what):
    good = {"question": "good?", "reference": "yes"}
    path = write_lines(tmp_path / "q.jsonl", good, "", line, good)
    found = only_problem_of(read_gap_questions, path)
    assert found.what.startswith(f"line 3 {what}")
    assert found.where == f"{path}, line 3"
    assert "one object a line" in found.rule
    assert "json.dumps" in found.remedy


def test_rows_of_json_lines_are_named_by_their_line(tmp_path):
    path = write_lines(
        tmp_path / "q.jsonl",
        {"question": "a", "reference": None},
        "",
        {"reference": "b"},
        {"question": "c", "reference": "?"},
        {"question": "a", "reference": "d"},
    )
    found = problems_of(read_gap_questions, path)
    assert [problem.where for problem in found] == [f"{path}, row {number}" for number in (1, 3, 4, 5)]
    assert found[3].what == "row 5 repeats the question of row 1: 'a'"


@pytest.mark.parametrize(
    ("cell", "right"),
    [
        *((cell, True) for cell in ("right", "correct", "yes", "true", "pass", "1", " RIGHT ", "Yes", "TRUE")),
        *((cell, False) for cell in ("wrong", "incorrect", "no", "false", "fail", "0", "Wrong\t", "FALSE")),
    ],
)
def test_verdict_is_taken_in_other_words(tmp_path, cell, right):
    rows = [("a", "b", cell), ("c", "d", "wrong")]
    path = write_csv(tmp_path / "q.csv", ("question", "reference", "rag"), rows)
    assert read_gap_questions(path)[0]["others"] == {"rag": right}


@pytest.mark.parametrize("cell", ["maybe", "", "2", "rightt", "1.0", "none"])
def test_cell_that_is_no_verdict_is_named_where_others_are(tmp_path, cell):
    rows = [("a", "b", "right"), ("c", "d", cell), ("e", "f", "wrong")]
    path = write_csv(tmp_path / "q.csv", ("question", "reference", "rag"), rows)
    found = only_problem_of(read_gap_questions, path)
    assert found.what == f"{cell!r} is no verdict"
    assert found.where == f"{path}, row 3, column 'rag'"


def test_column_without_a_verdict_in_words_is_ignored_and_named(tmp_path, capsys):
    header = ("Unnamed: 0", "question", "reference", "rag", "source", "needs_review", "checked", "notes")
    rows = [(str(n), f"q{n}", "r", "right", f"page {n}", str(n % 2), "True", "") for n in range(20)]
    path = write_csv(tmp_path / "q.csv", header, rows)
    assert {tuple(entry["others"]) for entry in read_gap_questions(path)} == {("rag",)}
    logged = capsys.readouterr().out
    assert f"{path}: other approaches are 'rag'\n" in logged
    assert f"{path}: ignored 'Unnamed: 0', 'source', 'needs_review', 'checked', 'notes'; an approach is named" in logged


@pytest.mark.parametrize("read", [read_gap_questions, read_retention_questions])
def test_columns_of_other_names_are_read_where_they_are_there(tmp_path, read):
    rows = [("7", "Who?", "the master", "clothes", "no")]
    path = write_csv(tmp_path / "q.csv", ("id", "prompt", "expected_answer", "category", "rag"), rows)
    names = {"prompt": "question", "expected_answer": "reference", "category": "subject", "rag": "approach"}
    (found,) = read(path, names)
    assert (found["question"], found["reference"], found["subject"]) == ("Who?", "the master", "clothes")
    assert found.get("others", {"rag": False}) == {"rag": False}
    usual = write_csv(tmp_path / "usual.csv", ("question", "reference", "rag"), [("Who?", "the master", "1")])
    assert read(usual, names)[0]["reference"] == "the master"
    found = only_problem_of(read, path, {"prompt": "question", "answer": "reference", "rag": "approach"})
    assert found.what == "column 'reference' is missing, and so is 'answer' (is it expected_answer?)"
    assert "--question-columns reference=expected_answer (on a cluster: data_options={" in found.remedy


def test_approach_that_the_user_names_is_there_and_goes_before_words_of_verdict(tmp_path):
    rows = [("a", "b", "1", "right"), ("c", "d", "0", "right")]
    path = write_csv(tmp_path / "q.csv", ("question", "reference", "rag", "checked"), rows)
    assert [entry["others"] for entry in read_gap_questions(path, {"rag": "approach"})] == [
        {"rag": True},
        {"rag": False},
    ]
    assert (
        only_problem_of(read_gap_questions, path, {"rga": "approach"}).what
        == "column 'rga' is missing (did you mean rag?)"
    )


def test_lists_in_columns_that_are_not_needed_are_no_error(tmp_path):
    path = write_lines(
        tmp_path / "q.jsonl", {"question": "a", "reference": "b", "tags": ["x", {"y": []}], "score": None}
    )
    assert [entry["question"] for entry in read_gap_questions(path)] == ["a"]


def test_misspelled_column_of_retention_questions_is_refused_and_another_ignored(tmp_path, capsys):
    header = ("question", "reference", "distractor", "zebra")
    rows = [(f"q{n}", "r", "s | t", "right") for n in range(20)]
    path = write_csv(tmp_path / "q.csv", header, rows)
    found = only_problem_of(read_retention_questions, path)
    assert found.what == "unknown column 'distractor' (did you mean distractors?)"
    assert "question, reference, subject, distractors, statement" in found.rule
    assert (
        len(read_retention_questions(write_csv(tmp_path / "q.csv", (*header[:2], "question_id", "zebra"), rows))) == 20
    )
    assert f"{path}: ignored 'question_id', 'zebra'" in capsys.readouterr().out


def test_multiple_choice_stands_next_to_questions_that_are_answered_in_full(tmp_path):
    path = write_csv(
        tmp_path / "q.csv",
        ("question", "reference", "distractors", "statement"),
        [("2 + 2?", "4 | four", "5 | |6 ", " It is {}."), ("3 + 3?", "6", "", " "), ("4?", "{}4", "5", "{}, it is.")],
    )
    assert [entry["choices"] for entry in read_retention_questions(path)] == [
        ["It is 4.", "It is 5.", "It is 6."],
        [],
        ["{}4, it is.", "5, it is."],
    ]


HALF, TWICE = "is half a multiple choice", "has a choice twice"


@pytest.mark.parametrize(
    ("distractors", "statement", "what"),
    [
        ("5 | 6", "", HALF), ("", "It is {}.", HALF), ("5", "It is 4.", HALF), ("5", "{} is {}.", HALF),
        ("", "It is.", HALF), ("|", "It is {}.", HALF), ("5 | 5", "It is {}.", TWICE), ("5 | 6", "It is {}.", TWICE),
    ],
)  # fmt: skip
def test_half_a_multiple_choice_and_a_choice_that_stands_twice_are_refused(tmp_path, distractors, statement, what):
    rows = [("2 + 2?", "4", "5", "It is {}."), ("3 + 3?", "6", distractors, statement), ("4 + 4?", "8", "", "")]
    path = write_csv(tmp_path / "q.csv", ("question", "reference", "distractors", "statement"), rows)
    found = only_problem_of(read_retention_questions, path)
    assert found.what.startswith(f"row 3 {what}")
    assert found.where.startswith(f"{path}, row 3, column")


def test_projects_retention_questions_cover_many_subjects_in_both_forms():
    questions = read_retention_questions("")
    several = [entry for entry in questions if entry["choices"]]
    in_full = [entry for entry in questions if not entry["choices"]]
    assert len(several) >= 200
    assert len(in_full) >= 140
    for entries in (several, in_full):
        subjects = Counter(entry["subject"] for entry in entries)
        assert len(subjects) >= 17
        assert "" not in subjects
        assert min(subjects.values()) >= 4
    for entry in several:
        assert len({same(choice) for choice in entry["choices"]}) == len(entry["choices"]) >= 4, entry
        assert not any("{}" in choice for choice in entry["choices"]), entry
    for entry in questions:
        assert all(words(alternative) for alternative in entry["reference"].split("|")), entry


def test_projects_open_questions_are_right_by_their_own_references():
    in_full = [entry for entry in read_retention_questions("") if not entry["choices"]]
    for entry in in_full:
        for alternative in entry["reference"].split("|"):
            assert is_right(entry["question"], entry["reference"], alternative.strip()), entry
        assert not is_right(entry["question"], entry["reference"], ""), entry


def test_length_does_not_tell_the_right_one_of_the_projects_choices():
    lengths = [list(map(len, entry["choices"])) for entry in read_retention_questions("") if entry["choices"]]
    for extreme in (max, min):
        alone = [right for right, *wrong in lengths if right == extreme(right, *wrong) and right not in wrong]
        assert len(alone) / len(lengths) < 0.25  # of four
