"""How SDG output is read and which of its rows are trained on."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from components.shared.options import Rule, check_rules, from_mapping, number, one_of, option, set_option, string
from components.shared.problems import Checks, quote, suggest

COLUMNS = {"question": "question", "response": "response", "judgment": "faithfulness_judgment"}
"""The columns that are needed, under the names that sdg_hub's flows give them."""

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
    accepted_judgments: str = option("YES", "judgments of rows to keep", _judgments("YES,FAITHFUL"))
    rejected_judgments: str = option("NO", "judgments of rows to drop, others are errors", _judgments("NO,UNFAITHFUL"))
    unjudged: str = option("refuse", "what becomes of rows that have no column of judgments", one_of("refuse", "keep"))
    near_duplicates: float = option(
        0.95,
        "similarity (of the sets of 8-byte pieces) from which two rows count as one, 1 compares nothing",
        number(least=MIN_SIMILARITY, most=1),
    )
    conflicts: str = option(
        "drop", "what becomes of rows with the same question and different answers", one_of("drop", "keep")
    )
    gap_questions: str = option("drop", "what becomes of rows that ask a gap question", one_of("drop", "keep"))
    held_out_share: float = option(
        0.0,
        "share of the rows that is set aside and not trained on, similar rows stay together",
        number(least=0, most=MAX_HELD_OUT),
    )

    def __post_init__(self) -> None:
        checks = Checks()
        check_rules(self, "data option", checks)
        if isinstance(self.columns, str):
            _parse_columns(self.columns, checks)
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
        return COLUMNS | _parse_columns(self.columns, Checks())

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


def _parse_columns(text: str, checks: Checks) -> dict[str, str]:
    columns: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        known, equals, name = (piece.strip() for piece in part.partition("="))
        if known not in COLUMNS or not equals or not name:
            checks.add(
                f"{quote(part)} names no column{suggest(known, COLUMNS)}",
                where="data options, columns",
                rule=f"known=name, comma-separated, known being {', '.join(COLUMNS)}",
                remedy=f"for instance {set_option(DataOptions, 'columns', 'response=answer, judgment=verdict')}",
            )
        elif known in columns:
            checks.add(
                f"{known} is named twice: {quote(columns[known])} and {quote(name)}",
                where="data options, columns",
                rule="each of them is one column",
                remedy="take one of them out",
            )
        else:
            columns[known] = name
    named: dict[str, str] = {}
    for known, name in (COLUMNS | columns).items():
        if other := named.get(name):
            checks.add(
                f"{other} and {known} are both the column {quote(name)}",
                where="data options, columns",
                rule=f"a column each; the default is {', '.join(map('='.join, COLUMNS.items()))}",
                remedy="name the other column, too",
            )
        named[name] = known
    return columns
