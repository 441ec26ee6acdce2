"""The labelled answers with which every grader is tried before its verdicts count."""

import csv
import io
from collections import defaultdict
from importlib import resources

TEXT = resources.files("components.grading").joinpath("trial_answers.csv").read_text(encoding="utf-8")
ROWS = list(csv.DictReader(io.StringIO(TEXT, newline="")))


def test_columns_are_those_a_trial_reads_and_none_is_empty() -> None:
    assert list(ROWS[0]) == ["language", "kind", "question", "reference", "answer", "right"]
    assert [row for row in ROWS if not all(row.values())] == []


def test_enough_rows_in_enough_languages() -> None:
    assert len(ROWS) >= 60
    assert len({row["language"] for row in ROWS}) >= 4


def test_labels_are_yes_or_no() -> None:
    assert {row["right"] for row in ROWS} == {"yes", "no"}


def test_no_answer_to_a_question_stands_twice_and_a_question_has_one_reference() -> None:
    assert len({(row["question"], row["answer"]) for row in ROWS}) == len(ROWS)
    assert len({(row["question"], row["reference"]) for row in ROWS}) == len({row["question"] for row in ROWS})


def test_a_grader_that_always_says_the_same_gains_nothing_in_any_language() -> None:
    labels = defaultdict(list)
    for row in ROWS:
        labels[row["language"]].append(row["right"] == "yes")
    shares = {language: sum(right) / len(right) for language, right in labels.items()}
    assert {language: share for language, share in shares.items() if not 0.35 <= share <= 0.65} == {}
