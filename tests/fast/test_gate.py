"""The acceptance thresholds decide, and what is not installed is refused before any model is loaded."""

import pytest

from components.evaluate.gate import decide
from components.evaluate.harness import check_installed
from components.evaluate.statistics import compare
from components.run.evaluation_options import EvaluationOptions
from tests.fast.conftest import only_problem_of

GAP = compare([False, True, True, False], [True, False, True, False])  # one closed, one regressed
GENERAL = {"multiple choice": None, "open-ended": compare([True, True], [True, False])}


@pytest.mark.parametrize(
    ("thresholds", "reasons"),
    [
        ({"retention_drop_max": 50}, []),
        ({"closed_min": 2, "retention_drop_max": 100}, ["1 gap questions closed, at least 2 required"]),
        ({"regressed_max": 0, "retention_drop_max": 100}, ["1 gap questions regressed, at most 0 allowed"]),
        ({"retention_drop_max": 49.5}, ["open-ended: down 50.0 percentage points, at most 49.5 allowed"]),
    ],
)
def test_each_threshold_that_is_not_met_is_a_reason(thresholds: dict[str, float], reasons: list[str]) -> None:
    gate = decide(GAP, GENERAL, EvaluationOptions(**thresholds))  # type: ignore[arg-type]

    assert (gate.good_enough, gate.reasons) == (not reasons, reasons)


def test_tasks_of_a_harness_that_is_not_installed_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.evaluate.harness.find_spec", lambda name: None)

    assert "lm_eval_tasks names arc_easy, hellaswag" in only_problem_of(check_installed, ["arc_easy", "hellaswag"]).what
    check_installed([])
