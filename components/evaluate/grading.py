"""Which grader grades, and how far it can be trusted.

A judge model at an endpoint where one is named; otherwise a model on this machine's GPU, by default the base model
itself; otherwise, and wherever a judge agrees too little with the labelled answers, the reference rules.
"""

import hashlib
from collections.abc import Iterable
from importlib import resources

import torch

from components.evaluate.kept import Kept
from components.grading import languages
from components.grading.cases import Case, Grader, OnVerdict, Verdict, ignore
from components.grading.local_judge import LocalJudge
from components.grading.reference_rules import is_right
from components.grading.trial import HELD_OUT, MIN_KAPPA, TUNED, calibrate, try_grader
from components.run.evaluation_options import ENDPOINT, LOCAL, RULES, EvaluationOptions
from components.run.findings import REFERENCE_RULES, Agreement, Grading
from components.shared import progress


class ReferenceRules:
    """The rules as a grader: a check of short answers, in the languages that they read."""

    name = REFERENCE_RULES

    @property
    def identity(self) -> str:
        """Changes with their code."""
        package = resources.files("components.grading")
        files = sorted(one.name for one in package.iterdir() if one.name.endswith((".py", ".csv", ".toml")))
        return hashlib.sha256(b"".join(package.joinpath(name).read_bytes() for name in files)).hexdigest()

    def verdicts(self, cases: Iterable[Case], on_verdict: OnVerdict = ignore) -> dict[Case, Verdict]:
        """A verdict on each case, None in a language that the rules do not read."""
        cases = list(cases)
        unread = set(languages.unread([(case.question, case.reference) for case in cases]))
        found = {}
        for case in cases:
            language = languages.language_of([case.question])
            right = None if language in unread else is_right(case.question, case.reference, case.answer)
            found[case] = Verdict(right, "" if right is not None else f"the reference rules do not read {language}")
            on_verdict(case, found[case])
        return found


class Panel:
    """The graders of one evaluation, each tried before it grades."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.refused: dict[str, Agreement] = {}
        self.accepted: Grader | None = None
        self.agreement: Agreement | None = None

    def offer(self, grader: Grader) -> bool:
        """Try a judge; whether it grades.

        Raises:
            Problems: as the judge.
        """
        agreement = self._try(grader)
        if agreement.kappa < MIN_KAPPA:
            progress.log(f"WARNING: {grader.name} is refused: kappa is below {MIN_KAPPA}")
            self.refused[grader.name] = agreement
            return False
        self.accepted, self.agreement = grader, agreement
        return True

    def grade(self, cases: list[Case]) -> tuple[dict[Case, Verdict], Grading]:
        """Verdicts by the judge that was accepted, or else by the reference rules.

        Raises:
            Problems: as the judge.
        """
        if self.accepted is None:
            self.accepted = ReferenceRules()
            self.agreement = self._try(self.accepted)
        assert self.agreement is not None
        verdicts = self._verdicts(self.accepted, cases)
        is_rules = isinstance(self.accepted, ReferenceRules)
        unread = languages.unread([(case.question, case.reference) for case in cases]) if is_rules else []
        if unread:
            progress.log(f"WARNING: the reference rules do not read {', '.join(unread)}; answers in it are not graded")
        return verdicts, Grading(
            grader=self.accepted.name,
            agreement=self.agreement,
            adaptations=list(getattr(self.accepted, "adaptations", [])),
            refused=self.refused,
            unread=unread,
        )

    def _try(self, grader: Grader) -> Agreement:
        progress.log(f"trying {grader.name} on labelled answers")
        if isinstance(grader, LocalJudge):
            agreement = calibrate(grader)
        else:
            halves = (HELD_OUT,) if isinstance(grader, ReferenceRules) else (TUNED, HELD_OUT)
            agreement = try_grader(_Remembering(grader, self.kept), halves)
        progress.log(
            f"{grader.name}: right about {100 * agreement.accuracy:.0f} % of {agreement.answers} labelled answers, "
            f"kappa {agreement.kappa:.2f} ({agreement.kappa_low:.2f} to {agreement.kappa_high:.2f})"
        )
        return agreement

    def _verdicts(self, grader: Grader, cases: list[Case]) -> dict[Case, Verdict]:
        return _Remembering(grader, self.kept).verdicts(cases)


class _Remembering:
    """A grader that is asked only for the verdicts that are not kept yet."""

    def __init__(self, grader: Grader, kept: Kept) -> None:
        self.grader, self.kept, self.name, self.identity = grader, kept, grader.name, grader.identity

    def verdicts(self, cases: Iterable[Case], on_verdict: OnVerdict = ignore) -> dict[Case, Verdict]:
        known: dict[Case, Verdict] = {}
        missing: list[Case] = []
        for case in dict.fromkeys(cases):
            value = self.kept.get(self.identity, case.question, case.reference, case.answer)
            if value is None:
                missing.append(case)
            else:
                known[case] = Verdict(*value)

        def keep(case: Case, verdict: Verdict) -> None:
            value = [verdict.right, verdict.reason]
            self.kept.put(value, self.identity, case.question, case.reference, case.answer)
            on_verdict(case, verdict)

        if known and missing:
            progress.log(f"{len(known)} verdicts of an earlier attempt are kept")
        return known | (self.grader.verdicts(missing, keep) if missing else {})


def kind_of_grader(options: EvaluationOptions) -> str:
    """ENDPOINT, LOCAL or RULES: what the options name, or what is there."""
    if options.grader != "auto":
        return options.grader
    if options.judge_url:
        return ENDPOINT
    return LOCAL if options.judge_model or torch.cuda.is_available() else RULES
