"""Graders are tried on labelled answers before they count."""

import numpy as np
import pytest

from components.evaluate.grading import Panel, ReferenceRules
from components.evaluate.kept import Kept
from components.grading.cases import Case
from components.grading.trial import MIN_KAPPA, agreement, best_threshold, kappa, labelled_answers
from tests.fast.test_kept import CASES, Truthful

ROWS = labelled_answers()
LABELS = [row["right"] == "yes" for row in ROWS]


@pytest.mark.parametrize(
    ("verdicts", "accuracy", "expected"),
    [
        (LABELS, 1.0, 1.0),
        ([not label for label in LABELS], 0.0, None),
        ([True] * len(LABELS), sum(LABELS) / len(LABELS), 0.0),
    ],
)
def test_agreement_is_accuracy_and_what_is_beyond_chance(
    verdicts: list[bool], accuracy: float, expected: float | None
) -> None:
    found = agreement(ROWS, verdicts)

    assert found.accuracy == pytest.approx(accuracy)
    assert found.kappa == pytest.approx(expected) if expected is not None else found.kappa < -0.9
    assert found.kappa_low <= found.kappa <= found.kappa_high
    assert found.falsely_right + found.falsely_wrong == len(LABELS) - sum(
        verdict == label for verdict, label in zip(verdicts, LABELS, strict=True)
    )


def test_kappa_is_that_of_a_worked_example() -> None:
    # Of 50 both say yes on 20, both no on 15, only the first on 5, only the second on 10: 0.7 agreed, 0.5 by chance.
    table = [(True, True)] * 20 + [(False, False)] * 15 + [(True, False)] * 5 + [(False, True)] * 10
    assert kappa(np.array(table)) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("values", "labels", "limit"),
    [
        ([1.0, 2.0, 3.0, 4.0], [False, False, True, True], 2.5),
        ([-9.0, -8.0, -2.0, -1.0, float("nan")], [False, False, False, True, True], -1.5),
        ([1.0, 1.0], [True, False], 0.0),
        ([1.0, 2.0], [True, True], 0.0),
    ],
)
def test_the_threshold_parts_right_answers_from_wrong_ones(
    values: list[float], labels: list[bool], limit: float
) -> None:
    assert best_threshold(np.array(values), np.array(labels)) == limit


def test_ungraded_answers_are_counted_and_agree_with_nothing() -> None:
    half: list[bool | None] = [label if place % 2 else None for place, label in enumerate(LABELS)]
    found = agreement(ROWS, half)

    assert (found.answers, found.ungraded, found.accuracy) == (len(ROWS) // 2, len(ROWS) - len(ROWS) // 2, 1.0)
    assert agreement(ROWS, [None] * len(ROWS)).kappa == 0.0


def test_a_judge_that_agrees_too_little_is_refused_and_the_reference_rules_grade() -> None:
    class Generous(Truthful):
        name, identity = "one that calls everything right", "generous"

        def verdicts(self, cases, on_verdict=lambda case, verdict: None):  # type: ignore[no-untyped-def]
            found = {case: verdict for case, verdict in super().verdicts(cases).items()}
            return {case: type(verdict)(True, "") for case, verdict in found.items()}

    panel = Panel(Kept(None))
    assert not panel.offer(Generous())
    verdicts, grading = panel.grade(CASES)

    assert grading.grader == ReferenceRules.name
    assert list(grading.refused) == [Generous.name]
    assert grading.refused[Generous.name].kappa < MIN_KAPPA
    assert [verdicts[case].right for case in CASES] == [True, False, False]


def test_answers_in_a_language_that_the_rules_do_not_read_are_not_graded() -> None:
    strange = Case("Который цвет у флага?", "зелёный", "Зелёный.")
    verdicts, grading = Panel(Kept(None)).grade([*CASES, strange])

    assert verdicts[strange].right is None
    assert [verdicts[case].right for case in CASES] == [True, False, False]
    assert grading.unread == ["ru"]
