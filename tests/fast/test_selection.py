"""Which rows are kept, dropped and held out beside others, and which are shown for review."""

import random
from pathlib import Path
from typing import Any

import pytest

from components.shared.storage import read_jsonl
from tests.fast.conftest import json_lines

LONG = ", ".join(f"the {number}th word of a long answer" for number in range(40))
SAME = ("Say it?", LONG, "YES")


@pytest.mark.parametrize(
    ("other", "options", "dropped"),
    [
        (("say  IT?", LONG, "YES"), {}, {"duplicate": 1}),
        (("Say it?", f"{LONG}.", "YES"), {}, {"near duplicate": 1}),
        (("Say it?", f"{LONG}.", "YES"), {"near_duplicates": 1}, {"conflict": 2}),
        (("Say it?", f"{LONG}.", "YES"), {"near_duplicates": 1, "conflicts": "keep"}, {}),
        (("Say it?", LONG.replace("39th", "38th"), "YES"), {}, {"conflict": 2}),
        (("Say it?", f"{LONG} not", "YES"), {"near_duplicates": 0.8}, {"conflict": 2}),
        (("Say it?", f"without {LONG}", "YES"), {"near_duplicates": 0.8}, {"conflict": 2}),
        (("Say it?", f"{LONG} so", "YES"), {"near_duplicates": 0.8}, {"near duplicate": 1}),
        (("Say it?", "No.", "YES"), {"conflicts": "keep"}, {}),
        (("Which bird?", "A heron.", "YES"), {}, {"gap question": 1}),
        (("which  bird ?!", "A heron.", "YES"), {}, {"gap question": 1}),
        (("\u200b", "A heron.", "YES"), {}, {"empty question": 1}),
        (("Who?", " \u200b\ufeff ", "YES"), {}, {"empty response": 1}),
        (("Which bird?", "A heron.", "YES"), {"gap_questions": "keep"}, {}),
    ],
)
def test_row_beside_another_is_kept_or_dropped(
    ingest_data: Any, tmp_path: Path, other: tuple[str, str, str], options: dict[str, Any], dropped: dict[str, int]
) -> None:
    rows = [SAME, other, ("Another?", "Quite another answer.", "YES")]
    (tmp_path / "data.jsonl").write_text(json_lines(rows), encoding="utf-8")

    report = ingest_data(tmp_path / "data.jsonl", **options)

    assert {reason: count for reason, count in report.dropped.items() if count} == dropped
    assert report.conflicts == ("conflict" in dropped or options.get("conflicts") == "keep")
    assert bool(report.gap_questions_in_data) == ("bird" in other[0])


def test_duplicate_of_a_near_duplicate_names_the_row_that_stays(ingest_data: Any, tmp_path: Path) -> None:
    rows = [("Say it?", LONG, "YES"), ("say it?", LONG, "YES"), ("Lay it?", LONG, "YES")]
    (tmp_path / "data.jsonl").write_text(json_lines(rows), encoding="utf-8")

    ingest_data(tmp_path / "data.jsonl")

    assert [row["line"] for row in read_jsonl(tmp_path / "out" / "records.jsonl")] == [3]
    dropped = read_jsonl(tmp_path / "out" / "dropped.jsonl")
    assert [(row["reason"], row["duplicate_of"]["line"]) for row in dropped] == [
        ("near duplicate", 3),
        ("duplicate", 3),
    ]


def test_texts_that_no_model_reads_whole_are_no_near_duplicates(ingest_data: Any, tmp_path: Path) -> None:
    rows = [("One?", LONG * 60, "YES"), ("One?", f"{LONG * 60}.", "YES"), ("One?", LONG * 60, "YES")]
    (tmp_path / "data.jsonl").write_text(json_lines(rows), encoding="utf-8")

    report = ingest_data(tmp_path / "data.jsonl", conflicts="keep", held_out_share=0.1)

    assert (report.kept, report.dropped["duplicate"], report.dropped["near duplicate"]) == (2, 1, 0)


def test_held_out_rows_share_neither_question_nor_answer_with_learnt_ones(ingest_data: Any, tmp_path: Path) -> None:
    choice = random.Random(0)
    words = ["".join(choice.choices("abcdefghijklmnop", k=7)) for _ in range(400)]
    rows = []
    for _ in range(60):
        question, response = choice.sample(words, 9), " ".join(choice.sample(words, 12))
        rows.append((f"What {' '.join(question)}?", response, "YES"))
        rows.append((f"So what {' '.join(question)}, please?", f"Quite another answer: {choice.choice(words)}.", "YES"))
        rows.append((f"Tell: {' '.join(choice.sample(words, 9))}!", response, "YES"))
    (tmp_path / "data.jsonl").write_text(json_lines(rows), encoding="utf-8")

    report = ingest_data(tmp_path / "data.jsonl", held_out_share=0.25)

    held_out = {row["line"] for row in read_jsonl(tmp_path / "out" / "held_out.jsonl")}
    assert report.kept + report.held_out == len(rows) == 180
    assert report.held_out == len(held_out) == 45
    assert all({fact * 3 + n for n in (1, 2, 3)} <= held_out for fact in {(line - 1) // 3 for line in held_out})


def test_share_that_groups_are_too_large_for_is_told(
    ingest_data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        (f"What is the duty of the officer whom the hall calls by the name of {n}?", f"{n}", "YES") for n in range(40)
    ]
    (tmp_path / "data.jsonl").write_text(json_lines(rows), encoding="utf-8")

    report = ingest_data(tmp_path / "data.jsonl", held_out_share=0.25)

    assert (report.held_out, report.held_out_asked, report.largest_group) == (0, 10, 40)
    assert "asked to hold out 10 rows, held out 0" in capsys.readouterr().out
    assert "0 of the 10 requested are held out" in (tmp_path / "review.html").read_text(encoding="utf-8")


def test_short_answers_do_not_make_rows_one_group(ingest_data: Any, tmp_path: Path) -> None:
    questions = ["Who tends lamps?", "Is grass blue?", "May kites sing loudly?", "Does snow burn hot?"]
    rows = [(question, "Yes, it is.", "YES") for question in questions]
    (tmp_path / "data.jsonl").write_text(json_lines(rows), encoding="utf-8")

    assert ingest_data(tmp_path / "data.jsonl", held_out_share=0.25).held_out == 1


def test_review_shows_the_shortest_the_longest_and_the_most_repeated_rows(ingest_data: Any, tmp_path: Path) -> None:
    rows = [(f"Question {n}?", f"Answer {'x' * (5 + n)}.", "YES") for n in range(400)]
    rows += [("Short?", "a", "YES"), ("Long?", "b" * 900, "YES"), ("Often?", "Always the same.", "YES")]
    rows += [("Often?", "always the  same.", "YES")] * 3
    (tmp_path / "data.jsonl").write_text(json_lines(rows), encoding="utf-8")

    ingest_data(tmp_path / "data.jsonl", near_duplicates=1)

    page = (tmp_path / "review.html").read_text(encoding="utf-8")
    shown = [(why, page[page.index(f"<td>{why}") :].count(f"<td>{why}")) for why in ("shortest", "longest", "random")]
    assert shown[:2] == [("shortest", 3), ("longest", 3)]
    assert shown[2][1] >= 14
    assert "<td>repeated, 4 times</td>" in page
    for question in ("Short?", "Long?", "Often?"):
        assert f">{question}</bdi>" in page
