"""How SDG output is read and which of its rows are trained on."""

import dataclasses
import json
import shlex
from collections.abc import Mapping
from typing import Any

from components.shared.options import from_mapping
from components.shared.problems import Checks, quote, suggest

COLUMNS = {"question": "question", "response": "response", "judgment": "faithfulness_judgment"}
"""The columns that are needed, under the names that sdg_hub's flows give them."""

DESCRIPTIONS = {
    "columns": "The data's own column names: response=answer, judgment=verdict.",
    "accepted_judgments": "Judgments of rows to keep, comma-separated.",
    "rejected_judgments": "Judgments of rows to drop, comma-separated.",
}
"""Of the options that the command line has by name."""

MAX_JUDGMENT = 80  # characters; longer cells are text, not judgments
MIN_SIMILARITY = 0.5
MAX_HELD_OUT = 0.5
CHOICES = {"unjudged": ("refuse", "keep"), "conflicts": ("drop", "keep"), "gap_questions": ("drop", "keep")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options of `ingest_sdg`, checked when made."""

    columns: str = ""
    """The data's own column names, as in "response=answer, judgment=verdict"; empty for sdg_hub's, see COLUMNS."""
    accepted_judgments: str = "YES"
    """Judgments of rows to keep, comma-separated; upper and lower case are the same."""
    rejected_judgments: str = "NO"
    """Judgments of rows to drop, in the same form; any other is an error."""
    unjudged: str = "refuse"
    """Data without a column of judgments, objects of JSONL without that name: "refuse" it, or "keep" its rows as if
    they were accepted."""
    near_duplicates: float = 0.95
    """Similarity of the sets of their 8-byte pieces, 0.5 to 1, from which two rows count as one; 1 compares nothing."""
    conflicts: str = "drop"
    """Rows with the same question and different answers: "drop" or "keep" all of them."""
    gap_questions: str = "drop"
    """Rows that ask a gap question: "drop" or "keep" them."""
    held_out_share: float = 0.0
    """Share of the rows that is set aside and not trained on, 0 to 0.5; similar rows stay together."""

    def __post_init__(self) -> None:
        checks = Checks()
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                _refuse(checks, self, name, f"one of {', '.join(choices)}")
        if not _between(MIN_SIMILARITY, self.near_duplicates, 1):
            _refuse(checks, self, "near_duplicates", f"a similarity from {MIN_SIMILARITY:g} to 1; 1 turns it off")
        if not _between(0, self.held_out_share, MAX_HELD_OUT):
            _refuse(checks, self, "held_out_share", f"a share from 0 to {MAX_HELD_OUT:g}")
        for name, example in (("accepted_judgments", "YES,FAITHFUL"), ("rejected_judgments", "NO,UNFAITHFUL")):
            text = getattr(self, name)
            if not isinstance(text, str) or not 0 < len(max(_split(text), key=len, default="")) <= MAX_JUDGMENT:
                rule = f"judgments of at most {MAX_JUDGMENT} characters, comma-separated, as in {example}"
                _refuse(checks, self, name, rule)
        if isinstance(self.columns, str):
            _parse_columns(self.columns, checks)
        else:
            _refuse(checks, self, "columns", "known=name, comma-separated")
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


def set_option(name: str, value: object) -> str:
    """How an option is set, on the command line and on a cluster: for the remedy of an error."""
    flag = f"{name}={value if isinstance(value, str) else json.dumps(value)}"
    return f"--data-option {shlex.quote(flag)} (on a cluster: data_options={json.dumps({name: value})})"


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
                remedy=f"for instance {set_option('columns', 'response=answer, judgment=verdict')}",
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


def _between(least: float, value: object, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _refuse(checks: Checks, options: DataOptions, name: str, rule: str) -> None:
    checks.add(
        f"{name} is {quote(getattr(options, name))}",
        where="data options",
        rule=rule,
        remedy=f"correct it, or leave it out: the default is {DataOptions.__dataclass_fields__[name].default!r}",
    )
