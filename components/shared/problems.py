"""Errors that a user can act on: what is wrong, where, which rule it breaks, and the remedy; all of them at once.

checks = Checks()
checks.add("column 'response' is missing", where="qa.csv, header", rule="...", remedy="...")
checks.raise_if_any()
"""

import contextlib
import dataclasses
import difflib
from collections.abc import Iterable, Iterator

from components.shared.addresses import may_hold_secret

MAX_QUOTE = 80  # characters of a user's value that an error repeats
_NOT_REPEATED = "an address that may hold a password or a key and is not repeated here"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that the user can mend."""

    what: str
    """What is wrong, as a sentence without a full stop."""
    where: str
    """The file, row, column, parameter or address it was found in."""
    rule: str
    """What would have been right."""
    remedy: str
    """What to do now."""
    may_pass: bool = False
    """The same thing may succeed later, without any change: a server that is away, a full disk."""

    def __str__(self) -> str:
        return f"{self.what}\n  where:  {self.where}\n  rule:   {self.rule}\n  remedy: {self.remedy}"


class Problems(ValueError):
    """Everything found wrong with the user's input. The command line and the steps print it and exit with code 1."""

    retry_after_seconds = 0.0
    """What a server asks to wait before another attempt, where it does."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        assert self.problems
        self.may_pass = all(problem.may_pass for problem in self.problems)
        count = len(self.problems)
        lines = [f"{number}. {problem}".replace("\n", "\n   ") for number, problem in enumerate(self.problems, 1)]
        super().__init__("\n".join([f"{count} problem{'s' if count > 1 else ''}", *lines]))


class StepFailed(Exception):
    """A step of a local run ended with an error; what it said about it is already shown."""


class Checks:
    """Collects problems, so that a user sees all of them and not the first one only."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, what: str, *, where: str, rule: str, remedy: str, may_pass: bool = False) -> None:
        self.problems.append(Problem(what=what, where=where, rule=rule, remedy=remedy, may_pass=may_pass))

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Add the problems that are raised within, and go on after it."""
        try:
            yield
        except Problems as error:
            self.problems.extend(error.problems)

    def raise_if_any(self) -> None:
        """Raises:
        Problems: when anything was added.
        """
        if self.problems:
            raise Problems(self.problems)


def problem(what: str, *, where: str, rule: str, remedy: str, may_pass: bool = False) -> Problems:
    """A single problem, ready to be raised."""
    return Problems([Problem(what=what, where=where, rule=rule, remedy=remedy, may_pass=may_pass)])


def first_line(error: str) -> str:
    """Of an error's text, what is wrong: the first line, or the one after "3 problems"."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return next((line for line in lines if not line.endswith((" problem", " problems"))), "")


def quote(value: object) -> str:
    """A user's value for an error text: on one line, without control characters, not longer than needed."""
    text = str(value)
    shown = text if len(text) <= MAX_QUOTE else text[: MAX_QUOTE - 1] + "…"
    return repr(shown)


def quote_address(value: object) -> str:
    """As `quote`, unless it is an address that may hold a password or a key: then it is not repeated."""
    return _NOT_REPEATED if may_hold_secret(str(value)) else quote(value)


def list_some(values: Iterable[object], most: int = 10) -> str:
    """'a, b, c and 4 more'."""
    items = [str(value) for value in values]
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")


def suggest(name: str, known: Iterable[str]) -> str:
    """' (did you mean x?)' for the known name nearest to `name`, or nothing."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    nearest = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return f" (did you mean {by_folded[nearest[0]]}?)" if nearest else ""
