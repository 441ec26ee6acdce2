"""What the report of an evaluation says, as a page, in short, on the terminal and as JSON."""

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from components.evaluate import words
from components.run.evaluation import Evaluation, Summary
from components.run.findings import (
    BROKEN,
    FAILED,
    IN_DOUBT,
    KEPT,
    NOT_SHOWN,
    REFERENCE_RULES,
    Condition,
    Gate,
    HeldOut,
    Match,
)
from components.run.statistics import by_subject
from pipeline.cli import terminal
from tests.report_page import (
    ADAPTED,
    TRAINING,
    hostile_evaluation,
    read,
    read_markdown,
    seen,
    write,
)
from tests.run_records import AGREEMENT, AUDIT, GRADING, MET_CONDITION, choice, evaluation, result

DOCUMENTATION = Path(__file__).parent.parent.parent / "docs" / "evaluation.md"
CLOSED = [result(False, True)]
WEAK = dataclasses.replace(AGREEMENT, kappa=0.41, kappa_low=0.2, kappa_high=0.55)
RULES = dataclasses.replace(GRADING, grader=REFERENCE_RULES)


def said(folder: Path, found: Evaluation) -> dict[str, str]:
    """Each form of the report as its reader sees it, by name."""
    summary = write(folder, found)
    shown = io.StringIO()
    terminal.show(summary, Console(file=shown, width=200))
    markdown = re.sub(r"\\(.)", r"\1", read_markdown(folder))
    return {"page": seen(read(folder).text), "markdown": seen(markdown), "terminal": seen(shown.getvalue())}


def condition(name: str, state: str) -> Condition:
    return Condition(name=name, state=state, finding=f"{name} is {state}", advice=[f"mend {name}", "ask more"])


@pytest.mark.parametrize(
    ("conditions", "headline"),
    [
        ([MET_CONDITION], "Good"),
        ([MET_CONDITION, condition("gap", NOT_SHOWN)], "Not shown"),
        ([condition("gap", NOT_SHOWN), condition("audit", FAILED)], "Not good"),
    ],
)
def test_every_form_says_whether_it_is_good_why_not_and_what_to_try(
    tmp_path: Path, conditions: list[Condition], headline: str
) -> None:
    found = evaluation(CLOSED, gate=Gate(conditions=conditions))
    for name, text in said(tmp_path, found).items():
        assert headline in text, name
        for unmet in found.gate.unmet:
            assert f"{unmet.finding}. To try: {unmet.advice[0]}; ask more" in text, name
    assert read_markdown(tmp_path).startswith(f"# Evaluation report\n\n**{headline}**\n\n")
    assert read(tmp_path).html.index(f">{headline}</p>") < read(tmp_path).html.index("<h2>")
    assert words.verdict(found).startswith(f"{headline}: ")
    assert all(unmet.finding in words.verdict(found) for unmet in found.gate.unmet)


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ({}, ["Graded by the local judge granite. Tried on 168 labelled answers", "88 %", "kappa 0.75", "de 78 %"]),
        (
            {"grading": dataclasses.replace(GRADING, adaptations=["no temperature", "no system"])},
            ["no temperature; no s"],
        ),
        (
            {"grading": dataclasses.replace(RULES, refused={"the judge tiny": WEAK})},
            ["Refused as a grader: the judge tiny, which reaches kappa 0.41", "rules, a check of short answers"],
        ),
        (
            {"grading": dataclasses.replace(RULES, agreement=WEAK)},
            ["Every verdict is weak evidence: the reference rules reach only kappa 0.41 (95 % interval 0.20 to 0.55)"],
        ),
        (
            {"grading": dataclasses.replace(RULES, unread=["ja", "pl"])},
            ["the reference rules do not read them: ja, pl"],
        ),
        ({"audit": dataclasses.replace(AUDIT, identical=True)}, ["identical weights"]),
        ({"differences": ["tokenizer", "end tokens"]}, ["the models differ in tokenizer, end tokens"]),
    ],
)
def test_every_form_says_who_graded_and_what_to_be_careful_about(
    tmp_path: Path, changes: dict[str, Any], sentences: list[str]
) -> None:
    for name, text in said(tmp_path, evaluation(CLOSED, **changes)).items():
        for sentence in sentences:
            assert sentence in text, name


def test_accepted_judge_needs_no_caution() -> None:
    assert words.cautions(evaluation(CLOSED)) == []


def test_what_closed_only_by_style_is_said_and_not_counted(tmp_path: Path) -> None:
    found = evaluation([result(False, True, brief=True), result(False, True), result(False, True), result(True, True)])
    assert found.gap
    assert found.gap.closed == 2
    for name, text in said(tmp_path, found).items():
        assert "3 gap questions closed, if the base model is only asked as the adapted one is" in text, name
        assert "one of them is graded right: that gain is one of style" in text, name
        assert "so that 2 closed" in text, name


GAP = [
    result(False, True, "Clean?"),
    result(False, True, "Trained?", in_training=True),
    result(False, None, "Ungraded?"),
    result(True, True, "Known?"),
]


def test_questions_that_do_not_count_are_marked_and_in_no_total(tmp_path: Path) -> None:
    match = Match(question="Trained?", row=7, passage="Trained, then?", score=0.8, where="question", how="similarity")
    found = evaluation(GAP, contamination=[match])
    for name, text in said(tmp_path, found).items():
        assert (
            "2 of 4 gap questions count; left out: 1 found in the training data, 1 with an answer that was" in text
        ), name
        assert "Of the gap questions 1 and of the general ones 0 were found in the 64 rows" in text, name
    html = read(tmp_path).html
    assert re.search(r"Trained\?</bdi> <span class=\"bad\">in the training data, not counted", html)
    assert re.search(r"Ungraded\?</bdi> <span class=\"bad\">not graded, not counted", html)
    assert html.count('aria-label="not graded">?') == 1
    (total,) = re.findall(r"of the 2 that count</th>(.*?)</tr>", html, re.DOTALL)
    assert re.findall(r"<strong>(\d+)</strong>", total) == ["1", "2", "1"]
    assert re.search(r"<td>7</td><td><bdi>Trained, then\?</bdi></td><td>similarity, question</td>", html)


def test_without_training_data_nothing_is_said_to_be_absent_from_it(tmp_path: Path) -> None:
    for name, text in said(tmp_path, evaluation(CLOSED, trained_rows=0)).items():
        assert "No training data was given: whether questions stand in it is not known." in text, name
        assert "were found" not in text, name


def test_narrow_screen_shows_question_base_and_adapted_first(tmp_path: Path) -> None:
    write(tmp_path, hostile_evaluation())
    html = read(tmp_path).html
    for name, first in (
        ("Gap questions", ["Question", "Base", "Adapted"]),
        ("Subject", ["Subject", "Base", "Adapted"]),
    ):
        (table,) = re.findall(rf'aria-label="{name}"><table>(.*?)</table>', html, re.DOTALL)
        assert re.findall(r'<th(?: class="number")? scope="col">([^<]*)', table)[:3] == first


def test_adapted_model_is_compared_with_each_other_approach(tmp_path: Path) -> None:
    gap = [result(False, True, others={"rag": False}) for _ in range(7)] + [result(False, False, others={"rag": True})]
    found = evaluation([*gap, result(False, True, others={"rag": False}, in_training=True)])
    rag = found.approaches["rag"]
    assert (rag.questions, rag.closed, rag.regressed) == (8, 7, 1)
    forms = said(tmp_path, found)
    cells = re.findall(r"<th scope=\"row\"><bdi>rag</bdi>(.*?)</tr>", read(tmp_path).html, re.DOTALL)
    numbers = re.findall(r"<td[^>]*>(.*?)</td>", cells[0])
    assert (*numbers[:3], *numbers[4:]) == ("1 (12&nbsp;%)", "7 (88&nbsp;%)", "8", "7", "1", "0.070")
    assert "| Gap questions, rag in place of base | 1 | 7 | 8 | 7 | 1 | 0.070 |" in forms["markdown"]
    assert "12.5 % → 87.5 % of 8 gap questions, rag in place of base; closed 7, regressed 1" in forms["terminal"]


def test_subjects_put_the_largest_loss_first_and_count_what_counts(tmp_path: Path) -> None:
    found = evaluation(
        CLOSED,
        choice_answers=[
            choice(True, True, subject="biology"),
            choice(True, False, subject="history"),
            choice(True, False, subject="biology", in_training=True),
        ],
        open_answers=[
            result(False, True, subject="biology"),
            result(False, False, subject="history", brief=True),
            result(None, False, subject="history"),
            result(True, True),
        ],
        open_in_brief=True,
    )
    subjects = {name: (c.base_right, c.adapted_right, c.questions) for name, c in by_subject(found).items()}
    assert list(subjects.items()) == [("history", (2, 0, 2)), ("no subject", (1, 1, 1)), ("biology", (1, 2, 2))]
    forms = said(tmp_path, found)
    assert "history: 2 → 0 of 2, -100.0" in forms["markdown"]
    assert "biology: " not in forms["markdown"]
    assert "of 2 questions on history; closed 0, regressed 2" in forms["terminal"]
    (table,) = re.findall(r'aria-label="Subject">(.*?)</table>', read(tmp_path).html, re.DOTALL)
    assert re.findall(r"<bdi>(.*?)</bdi>", table) == list(subjects)


@pytest.mark.parametrize(
    ("changes", "present", "absent"),
    [
        (
            {},
            "protected directions is kept, measured by unfreeze_rank_ratio 0.25: 0.1230 % of",
            "identical",
        ),
        ({"word": IN_DOUBT}, "The guarantee to change nothing in protected directions is in doubt", "is kept"),
        ({"word": BROKEN}, "The guarantee to change nothing in protected directions is broken", "is kept"),
        ({"word": KEPT}, "Most beyond rounding: model.layers.0.self_attn.q_proj.weight, 0.1230 %", "identical"),
        ({}, "40.0 % of the whole change", "identical"),
        (
            {"word": BROKEN, "promised": False},
            "The method gives no guarantee against this model; by OSFT's measure it is broken",
            "is kept",
        ),
        ({"worst": ""}, "The guarantee to change nothing in protected directions is kept", "Most beyond"),
        ({"identical": True}, "identical weights: there is no change to audit", "guarantee is kept"),
        ({"word": "", "matrices": []}, "No matrix was protected, measured by", "guarantee"),
        (
            {"word": "", "worst": "", "matrices": [dataclasses.replace(AUDIT.matrices[0], protected=False)]},
            "No matrix was protected",
            "guarantee",
        ),
    ],
)
def test_audit_says_a_word_and_no_more_than_was_measured(
    tmp_path: Path, changes: dict[str, Any], present: str, absent: str
) -> None:
    found = evaluation(CLOSED, audit=dataclasses.replace(AUDIT, **changes), gate=Gate(conditions=[]))
    for name, text in said(tmp_path, found).items():
        assert present in text, name
        assert absent not in text, name


def test_p_value_that_is_very_small_is_nowhere_zero(tmp_path: Path) -> None:
    found = evaluation([result(False, True)] * 30)
    for name, text in said(tmp_path, found).items():
        assert "p < 0.001" in text, name
    assert "(p < 0.001)" in words.verdict(found)
    assert '<td class="number">&lt; 0.001</td>' in read(tmp_path).html


@pytest.mark.parametrize(
    ("questions", "sentence"),
    [
        (1, "One question is too few for any statistical conclusion"),
        (5, "5 questions are too few for any statistical conclusion"),
        (
            10,
            "10 questions are few: a true gain of 67 points or more comes out as significant with at least 80 %",
        ),
        (
            30,
            "On 30 gap questions a true gain of 25 points or more comes out as significant with at least 80 %",
        ),
    ],
)
def test_report_says_what_so_many_questions_can_show(tmp_path: Path, questions: int, sentence: str) -> None:
    forms = said(tmp_path, evaluation([result(False, number > 0) for number in range(questions)]))
    assert sentence in forms["page"]
    assert sentence in forms["markdown"]


@pytest.mark.parametrize(
    ("adapted", "change"),
    [
        (4.0, "(-50.0 %): the adapted model finds them likelier"),
        (9.0, "(+12.5 %): the adapted model finds them less likely"),
    ],
)
def test_held_out_answers_are_shown_with_their_change_only_where_there_are_any(
    tmp_path: Path, adapted: float, change: str
) -> None:
    held_out = HeldOut(answers=12, base_perplexity=8.0, adapted_perplexity=adapted)
    shown = f"Perplexity on 12 held-out answers, which were not trained on: 8.00 → {adapted:.2f} {change}"
    for name, text in said(tmp_path, evaluation(CLOSED, held_out=held_out)).items():
        assert shown in text, name
    for name, text in said(tmp_path, evaluation(CLOSED)).items():
        assert "held-out" not in text, name


def test_empty_answer_and_one_that_was_cut_off_say_so(tmp_path: Path) -> None:
    write(tmp_path, evaluation([result(False, False, answer=" \n"), result(True, True, cut=True)]))
    text = read(tmp_path).text
    assert (text.count("(empty)"), text.count("(cut off at max_answer_tokens)")) == (3, 3)


def test_training_is_shown_when_the_model_says_how_it_was_trained(tmp_path: Path) -> None:
    write(tmp_path, evaluation(CLOSED), TRAINING)
    labels = [str(drawing["aria-label"]) for drawing in read(tmp_path).of("svg")]
    assert labels[0] == "Training loss by optimizer step, from 2.00 to 0.50, with the learning rate"
    assert len(labels) == 2


def test_metrics_of_another_trainer_are_no_error(tmp_path: Path) -> None:
    metrics = tmp_path / ADAPTED / "metrics.jsonl"
    metrics.parent.mkdir()
    metrics.write_text('{"train/loss": 1.0}\n', encoding="utf-8")
    write(tmp_path, evaluation(CLOSED))
    assert len(read(tmp_path).of("svg")) == 1
    assert Summary.read(tmp_path / "out").training is None


def test_what_lies_beside_the_report_is_linked_and_what_does_not_is_not(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "plan.html").write_text("<p>the plan</p>", encoding="utf-8")
    beside = [tmp_path / "review.html", tmp_path / "dropped.jsonl"]
    write(tmp_path, evaluation(CLOSED), beside=beside)
    assert read(tmp_path).of("a") == [{"href": "plan.html"}]
    for path in beside:
        path.write_text(path.name, encoding="utf-8")
    write(tmp_path, evaluation(CLOSED), beside=beside)
    assert [link["href"] for link in read(tmp_path).of("a")] == ["review.html", "dropped.jsonl", "plan.html"]
    assert (tmp_path / "out" / "dropped.jsonl").read_text(encoding="utf-8") == "dropped.jsonl"


def test_markdown_names_ten_changed_questions_at_most(tmp_path: Path) -> None:
    write(tmp_path, evaluation([result(False, number % 5 > 0, question=f"Question {number}?") for number in range(40)]))
    assert re.findall(r"Question (\d+)", read_markdown(tmp_path)) == [
        "1",
        "2",
        "3",
        "4",
        "6",
        "7",
        "8",
        "9",
        "11",
        "12",
    ]
