"""Good, not good, not shown: what each condition makes of numbers, and how often the gate errs."""

import dataclasses
from typing import Any

import pytest

from benchmarks.gate import AUDIT, simulate
from benchmarks.gate import TRUTHS as SIMULATED
from components.data.questions import read_retention_questions
from components.evaluate.gate import decide
from components.evaluate.harness import check_installed
from components.run.evaluation_options import EvaluationOptions
from components.run.findings import FAILED, GOOD, MET, NOT_GOOD, NOT_SHOWN, Comparison
from components.run.statistics import compare
from tests.fast.conftest import only_problem_of

CLOSED, REGRESSED, CHOICE, OPEN = "gap questions closed", "gap questions regressed", "choice", "open"
EARLIER = "earlier questions"


def compared(questions: int, right: int, closed: int, regressed: int) -> Comparison:
    """So many questions, of which the base model got some right, and what changed."""
    base = [True] * right + [False] * (questions - right)
    adapted = [*(place >= regressed for place in range(right)), *(place < closed for place in range(questions - right))]
    return compare(base, adapted)


LEARNT, SAME, MANY = compared(40, 2, 20, 1), compared(200, 150, 0, 0), compared(140, 90, 3, 4)

DECISIONS: dict[str, tuple[dict[str, Any], str, dict[str, str]]] = {
    "all conditions are met": ({}, GOOD, {}),
    "nothing was closed": ({"gap": compared(40, 2, 0, 0)}, NOT_GOOD, {CLOSED: FAILED}),
    "as many regressed as closed": ({"gap": compared(40, 10, 3, 3)}, NOT_GOOD, {CLOSED: FAILED}),
    "closed by chance, perhaps": ({"gap": compared(40, 2, 4, 0)}, NOT_SHOWN, {CLOSED: NOT_SHOWN}),
    "too few questions to show a gain": ({"gap": compared(5, 0, 5, 0)}, NOT_SHOWN, {CLOSED: NOT_SHOWN}),
    "too few to show that there is none": ({"gap": compared(5, 0, 0, 0)}, NOT_SHOWN, {CLOSED: NOT_SHOWN}),
    "no question is clean": ({"gap": None}, NOT_SHOWN, {CLOSED: NOT_SHOWN}),
    "a gain with more regressed than allowed": (
        {"gap": compared(40, 15, 20, 5)}, NOT_GOOD, {REGRESSED: FAILED},
    ),
    "as many regressed as allowed": ({"gap": compared(40, 15, 20, 4)}, GOOD, {}),
    "half of multiple choice is lost": ({CHOICE: compared(200, 150, 0, 75)}, NOT_GOOD, {CHOICE: FAILED}),
    "general knowledge of few questions": ({OPEN: compared(20, 12, 1, 1)}, NOT_SHOWN, {OPEN: NOT_SHOWN}),
    "a wider margin": ({OPEN: compared(20, 12, 1, 1), "retention_margin": 30.0}, GOOD, {}),
    "a loss within the margin, but not by much": ({OPEN: compared(140, 90, 3, 13)}, NOT_SHOWN, {OPEN: NOT_SHOWN}),
    "no open question": ({OPEN: None}, GOOD, {}),
    "no general question": ({OPEN: None, CHOICE: None}, NOT_SHOWN, {"general questions": NOT_SHOWN}),
    "many answers without a grade": ({"ungraded": (19, 180)}, NOT_SHOWN, {"grading": NOT_SHOWN}),
    "few answers without a grade": ({"ungraded": (18, 180)}, GOOD, {}),
    "a broken promise": ({"audit": "broken"}, NOT_GOOD, {"audit": FAILED}),
    "a promise in doubt": ({"audit": "in doubt"}, NOT_SHOWN, {"audit": NOT_SHOWN}),
    "no promise": ({"audit": ""}, GOOD, {}),
    "a method that promises nothing": ({"audit": "broken", "promised": False}, GOOD, {}),
    "a small gain of one model": ({"gap": compared(40, 2, 6, 0)}, GOOD, {}),
    "a small gain of one of three": ({"gap": compared(40, 2, 6, 0), "trials": 3}, NOT_SHOWN, {CLOSED: NOT_SHOWN}),
    "a loss of one model": ({OPEN: compared(140, 90, 3, 9)}, GOOD, {}),
    "a loss of one of three": ({OPEN: compared(140, 90, 3, 9), "trials": 3}, NOT_SHOWN, {OPEN: NOT_SHOWN}),
    "what was learnt is still there": ({"earlier": compared(20, 10, 0, 1)}, GOOD, {}),
    "what was learnt is gone": ({"earlier": compared(20, 10, 5, 2)}, NOT_GOOD, {EARLIER: FAILED}),
    "nothing was right then": ({"earlier": compared(20, 0, 5, 0)}, NOT_SHOWN, {EARLIER: NOT_SHOWN}),
    "no earlier question is graded": ({"earlier": None}, NOT_SHOWN, {EARLIER: NOT_SHOWN}),
    "one failed and one not shown": ({"gap": None, "audit": "broken"}, NOT_GOOD, {CLOSED: NOT_SHOWN, "audit": FAILED}),
}  # fmt: skip


@pytest.mark.parametrize("name", DECISIONS)
def test_the_gate_answers_good_not_good_or_not_shown(name: str) -> None:
    given, verdict, unmet = DECISIONS[name]
    given = {"gap": LEARNT, CHOICE: SAME, OPEN: MANY, "ungraded": (0, 180), "audit": "kept", "promised": True} | given
    options = EvaluationOptions(**{key: value for key, value in given.items() if key.startswith("retention")})
    general = {part: given[part] for part in (CHOICE, OPEN)}
    audit = dataclasses.replace(AUDIT, word=given["audit"], promised=given["promised"])

    earlier = {"earlier": given["earlier"], "earlier_asked": 20} if "earlier" in given else {}

    gate = decide(given["gap"], general, given["ungraded"], audit, options, trials=given.get("trials", 1), **earlier)

    assert gate.verdict == verdict
    assert {one.name: one.state for one in gate.unmet} == unmet
    assert all(bool(one.advice) == (one.state != MET) for one in gate.conditions)


@pytest.mark.parametrize(
    ("truth", "verdict", "least", "most"),
    [
        ("learnt half, lost nothing", GOOD, 0.9, 1.0),
        ("learnt half, lost twice the margin", GOOD, 0.0, 0.01),
        ("learnt nothing, lost nothing", GOOD, 0.0, 0.03),
    ],
)
def test_the_gate_errs_seldom_with_the_questions_of_the_project(
    truth: str, verdict: str, least: float, most: float
) -> None:
    general = read_retention_questions("")
    choices = sum(bool(entry["choices"]) for entry in general)

    assert least <= simulate(40, (choices, len(general) - choices), SIMULATED[truth], 100)[verdict] <= most


def test_tasks_of_a_harness_that_is_not_installed_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.evaluate.harness.find_spec", lambda name: None)

    assert "lm_eval_tasks names arc_easy, hellaswag" in only_problem_of(check_installed, ["arc_easy", "hellaswag"]).what
    check_installed([])
