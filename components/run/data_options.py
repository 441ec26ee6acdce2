"""How SDG output is read and which of its rows are trained on."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar

from components.shared.options import Rule, check_rules, from_mapping, number, one_of, option, set_option, string
from components.shared.problems import Checks, quote, suggest

COLUMNS = {"question": "question", "response": "response", "judgment": "faithfulness_judgment"}
"""The columns that are needed, under the names that sdg_hub's flows give them."""
DEFAULT = ", ".join(map("=".join, COLUMNS.items()))
APPROACH = "approach"
QUESTION_COLUMNS = ("question", "reference", "subject", "distractors", "statement", APPROACH)
EXAMPLES = {"columns": "response=answer, judgment=verdict", "question_columns": "reference=expected_answer"}

MAX_JUDGMENT = 80  # characters; longer cells are text, not judgments
MIN_SIMILARITY = 0.5
MAX_HELD_OUT = 0.5


def _judgments(example: str) -> Rule:
    return string(
        f"judgments of at most {MAX_JUDGMENT} characters, comma-separated, as in {example}; case does not matter",
        lambda text: 0 < len(max(_split(text), key=len, default="")) <= MAX_JUDGMENT,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options of `ingest_sdg`, checked when made."""

    HOLDER: ClassVar = ("--data-option", "data_options")

    columns: str = option(
        "", "the data's own column names", string("known=name, comma-separated: response=answer, judgment=verdict")
    )
    accepted_judgments: str = option("YES,TRUE,PASS,1", "judgments of rows to keep", _judgments("YES,FAITHFUL"))
    rejected_judgments: str = option(
        "NO,FALSE,FAIL,0",
        "judgments of rows to drop; any other is an error that counts it",
        _judgments("NO,UNFAITHFUL"),
    )
    unjudged: str = option(
        "refuse",
        "what becomes of rows that have no column of judgments; rows of messages need none",
        one_of("refuse", "keep"),
    )
    question_columns: str = option(
        "",
        "the questions' own column names, in both files of questions where they are there, and approaches",
        string("known=name, comma-separated: reference=expected_answer, subject=category, approach=rag"),
    )
    near_duplicates: float = option(
        0.95,
        "similarity (of the sets of 8-byte pieces) from which two rows count as one, 1 compares nothing",
        number(least=MIN_SIMILARITY, most=1),
    )
    conflicts: str = option(
        "drop",
        "what becomes of rows with the same question and different answers, which are reported either way",
        one_of("drop", "keep"),
    )
    gap_questions: str = option(
        "drop", "what becomes of rows that ask a gap question, which are reported either way", one_of("drop", "keep")
    )
    held_out_share: float = option(
        0.0,
        "share of the rows that is set aside and not trained on, similar rows stay together",
        number(least=0, most=MAX_HELD_OUT),
    )

    def __post_init__(self) -> None:
        checks = Checks()
        check_rules(self, "data option", checks)
        if isinstance(self.columns, str):
            names = COLUMNS | dict(_parse_names("columns", self.columns, COLUMNS, checks))
            _check_apart("columns", names.items(), f"name the other column, too; the default is {DEFAULT}", checks)
        if isinstance(self.question_columns, str):
            pairs = _parse_names("question_columns", self.question_columns, QUESTION_COLUMNS, checks)
            _check_apart("question_columns", pairs, "take one of them out", checks)
        checks.raise_if_any()
        if both := {judgment.casefold() for judgment in self.rejected} & {one.casefold() for one in self.accepted}:
            checks.add(
                f"{quote(sorted(both)[0])} is accepted and rejected",
                where="data options, accepted_judgments and rejected_judgments",
                rule="upper and lower case are the same; a judgment is one or the other",
                remedy="take it out of one of them",
            )
        checks.raise_if_any()

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], further: Mapping[str, Any] | None = None) -> "DataOptions":
        """As `components.shared.options.from_mapping`."""
        return from_mapping(cls, "data", values, further)

    @property
    def column_names(self) -> dict[str, str]:
        """COLUMNS with the user's own names."""
        return COLUMNS | dict(_parse_names("columns", self.columns, COLUMNS, Checks()))

    @property
    def question_names(self) -> dict[str, str]:
        """What the questions' columns are that have names of their own: {"expected_answer": "reference"}."""
        pairs = _parse_names("question_columns", self.question_columns, QUESTION_COLUMNS, Checks())
        return {name: kind for kind, name in pairs}

    @property
    def accepted(self) -> tuple[str, ...]:
        return _split(self.accepted_judgments)

    @property
    def rejected(self) -> tuple[str, ...]:
        return _split(self.rejected_judgments)


def set_data_option(name: str, value: Any) -> str:
    """How an option of the data is set, for the remedy of an error."""
    return set_option(DataOptions, name, value)


def _split(text: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, text.split(","))))


def _parse_names(option: str, text: str, known: Collection[str], checks: Checks) -> list[tuple[str, str]]:
    """What a list of columns says, as pairs of a known name and the column's own; adds what is wrong with it."""
    pairs: list[tuple[str, str]] = []
    for part in filter(None, map(str.strip, text.split(","))):
        kind, equals, name = (piece.strip() for piece in part.partition("="))
        before = next((other for one, other in pairs if one == kind and kind != APPROACH), None)
        if kind not in known or not equals or not name:
            checks.add(
                f"{quote(part)} names no column{suggest(kind, known)}",
                where=f"data options, {option}",
                rule=f"known=name, comma-separated, known being {', '.join(known)}",
                remedy=f"for instance {set_data_option(option, EXAMPLES[option])}",
            )
        elif before is not None:
            checks.add(
                f"{kind} is named twice: {quote(before)} and {quote(name)}",
                where=f"data options, {option}",
                rule="each of them is one column",
                remedy="take one of them out",
            )
        else:
            pairs.append((kind, name))
    return pairs


def _check_apart(option: str, pairs: Iterable[tuple[str, str]], remedy: str, checks: Checks) -> None:
    """Add columns that are two things at once."""
    named: dict[str, str] = {}
    for kind, name in pairs:
        if other := named.get(name):
            checks.add(
                f"{other} and {kind} are both the column {quote(name)}",
                where=f"data options, {option}",
                rule="a column each",
                remedy=remedy,
            )
        named[name] = kind
