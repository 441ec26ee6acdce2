"""Paired tests between adapted models: each two runs on the questions that both were asked.

A question counts where both models' answers were graded and neither was trained on it. Over the pairs of runs of one
kind of question the p-values are corrected by Holm's method; the intervals are not.
"""

import dataclasses
import itertools
from collections.abc import Mapping

from components.run.evaluation import Evaluation, Summary
from components.run.findings import SIGNIFICANT, Comparison
from components.run.statistics import compare

GAP, CHOICES, OPEN = KINDS = ("gap questions", "general questions, multiple choice", "general questions, open-ended")
Question = tuple[str, str]
"""The question and the right answer: with another reference it is another question."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Two runs' adapted models on one kind of question."""

    kind: str
    first: str
    second: str
    compared: Comparison | None
    """The first in place of base, the second in place of adapted; None when they cannot be compared."""
    p_holm: float | None
    """Of this test among all of its kind."""
    remark: str
    """Why they cannot be compared, or that they were asked different questions; empty otherwise."""

    @property
    def shown(self) -> bool:
        """Whether a difference is shown, after the correction."""
        return self.p_holm is not None and self.p_holm < SIGNIFICANT


def paired_tests(runs: Mapping[str, Summary]) -> list[PairedTest]:
    """The tests of each two runs, by kind of question; none of a kind that neither run was asked."""
    verdicts = {name: {kind: _verdicts(run.evaluation, kind) for kind in KINDS} for name, run in runs.items()}
    tests = []
    for kind in KINDS:
        of_kind = [
            _test(kind, first, second, verdicts, incomparable(runs[first], runs[second]))
            for first, second in itertools.combinations(runs, 2)
            if verdicts[first][kind] or verdicts[second][kind]
        ]
        corrected = iter(holm([test.compared.p_value for test in of_kind if test.compared]))
        tests += [dataclasses.replace(test, p_holm=next(corrected)) if test.compared else test for test in of_kind]
    return tests


def incomparable(first: Summary, second: Summary) -> str:
    """Why two runs cannot be compared whatever they were asked; empty when they can."""
    reasons = []
    if _base(first) != _base(second):
        reasons.append(f"another base model: {_base(first)} and {_base(second)}")
    graders = first.evaluation.grading.grader, second.evaluation.grading.grader
    if graders[0] != graders[1]:
        reasons.append(f"another grader: {graders[0]} and {graders[1]}")
    return "; ".join(reasons)


def holm(p_values: list[float]) -> list[float]:
    """p-values corrected for being several, in the same order (Holm 1979): the smallest times their number, the next
    times one less, and none smaller than the one before it."""
    corrected = [0.0] * len(p_values)
    most = 0.0
    for place, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        most = max(most, min(1.0, p_values[number] * (len(p_values) - place)))
        corrected[number] = most
    return corrected


def _base(run: Summary) -> str:
    return f"{run.training.plan.model_source} at {run.training.plan.model_commit}" if run.training else run.base


def _verdicts(found: Evaluation, kind: str) -> dict[Question, bool]:
    """Whether the adapted model is right, by question; of those that count for it."""
    if kind == CHOICES:
        return {(c.question, c.right): c.adapted == c.right for c in found.choice_answers if not c.in_training}
    answers = found.gap_answers if kind == GAP else found.open_answers
    return {
        (one.question, one.reference): one.adapted.right
        for one in answers
        if one.adapted.right is not None and not one.in_training
    }


def _test(
    kind: str, first: str, second: str, verdicts: Mapping[str, Mapping[str, dict[Question, bool]]], reason: str
) -> PairedTest:
    one, other = verdicts[first][kind], verdicts[second][kind]
    common = [question for question in one if question in other]
    remark, compared = reason, None
    if not reason and not common:
        remark = "no question in common"
    elif not reason:
        compared = compare([one[question] for question in common], [other[question] for question in common])
        if len(common) < max(len(one), len(other)):
            remark = f"only {len(common)} of {len(one)} and {len(other)} questions count for both"
    return PairedTest(kind=kind, first=first, second=second, compared=compared, p_holm=None, remark=remark)
