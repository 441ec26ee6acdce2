"""What every grader is given, and what it gives back: a case, a question with its reference and one answer; a verdict.

    Case("What colour is a master's sash?", "crimson", "It is red.")  ->  Verdict(right=False, "Red is not crimson.")

A grader never learns which model answered. The same answer to the same question is one case.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Protocol


@dataclasses.dataclass(frozen=True)
class Case:
    """One answer to grade."""

    question: str
    reference: str
    """Alternatives are separated by " | "."""
    answer: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    right: bool | None
    """None when the grader refuses to grade this answer: it then counts for neither model."""
    reason: str
    """The grader's own words; empty when it gives none."""


OnVerdict = Callable[[Case, Verdict], None]


def ignore(case: Case, verdict: Verdict) -> None:
    """Does nothing with a verdict as it comes."""


class Grader(Protocol):
    """Something that grades answers."""

    @property
    def name(self) -> str:
        """What a reader of the report calls it, as in "graded by the model NAME at an endpoint"."""

    @property
    def identity(self) -> str:
        """Names all that its verdicts depend on beside the case."""

    def verdicts(self, cases: Iterable[Case], on_verdict: OnVerdict = ignore) -> dict[Case, Verdict]:
        """A verdict on each case; `on_verdict` is called with each one as it comes.

        Raises:
            Problems: when there are cases without a verdict after all attempts.
        """
