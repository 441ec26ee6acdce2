"""What a row's judge said: whether the answer is faithful to the source.

    YES        [no]        "The document says so. YES"        "Judgment: NO\nExplanation: not in the text."

A judgment is one of the words that the options accept or reject. Beside an explanation it is the word that is a
sentence of its own or stands behind a colon, at the beginning or the end of the first or the last line; with two
different ones it is unknown. What follows a question answers that and is none, nor is a number, which may be that of a
paragraph.
"""

import re
from collections import Counter

from components.ingest_sdg.rows import Row
from components.run.data_options import MAX_JUDGMENT, DataOptions, set_data_option
from components.shared.problems import Checks, list_some, quote

MAX_UNKNOWN = 5  # different ones; with more of them the column holds something else
SENTENCE_END = re.compile(r"[.!:;]+|\s[-–—]\s")
EDGES = re.compile(r"^[\W_]+|[\W_]+$")
EXPLAINED = "the word that is a sentence of its own, or behind a colon, at the beginning or the end"


class Judgments:
    """Which rows are accepted; counts the judgments, and those that are neither accepted nor rejected."""

    def __init__(self, shown: str, options: DataOptions) -> None:
        self.counts: Counter[str] = Counter()
        """By word, as the options have it."""
        self.explained = 0
        """Rows whose cell holds more than the judgment."""
        self.unjudged = 0
        self._shown = shown
        self._options = options
        self._accepted = {word.casefold(): word for word in options.accepted}
        self._known = self._accepted | {word.casefold(): word for word in options.rejected}
        self._unknown: dict[str, list[int]] = {}
        self._unknown_counts: Counter[str] = Counter()
        self._rows = 0

    def accepts(self, row: Row) -> bool:
        self._rows += 1
        if row.judgment is None:
            self.unjudged += 1
            return True
        word = row.judgment.casefold().removesuffix(".0")  # as pandas writes 1 where a cell of the column is empty
        if word not in self._known:
            word = _explained(row.judgment, self._known)
            self.explained += bool(word)
        if word:
            self.counts[self._known[word]] += 1
        else:
            self._add_unknown(row.judgment, row.line)
        return word in self._accepted

    def check(self, checks: Checks) -> None:
        """Add a problem for each unknown judgment."""
        where = f"{self._shown}, column {self._options.column_names['judgment']}"
        accepted, rejected = self._options.accepted, self._options.rejected
        rule = f"kept: {', '.join(accepted)}; dropped: {', '.join(rejected)}; beside an explanation, {EXPLAINED}"
        if len(self._unknown) > MAX_UNKNOWN:
            checks.add(
                f"more than {MAX_UNKNOWN} unknown judgments in {self._rows} rows, for instance "
                f"{', '.join(map(quote, list(self._unknown)[:3]))}",
                where=where,
                rule=rule,
                remedy=f"name the judgment's column, as in {set_data_option('columns', 'judgment=verdict')}",
            )
            return
        for judgment, lines in self._unknown.items():
            count = self._unknown_counts[judgment]
            remedy = "fill the cells, or take the rows out"
            if judgment:
                remedy = "correct the rows"
                if "," not in judgment and len(judgment) <= MAX_JUDGMENT:
                    for verb, known in (("accept", accepted), ("reject", rejected)):
                        longer = set_data_option(f"{verb}ed_judgments", ",".join([*known, judgment]))
                        remedy += f"; to {verb} it, add {longer}"
            checks.add(
                f"unknown judgment {quote(judgment)} in {count} of {self._rows} rows",
                where=f"{where}, lines {list_some(lines, 5)}" + (f" and {count - 5} more" if count > 5 else ""),
                rule=rule,
                remedy=remedy,
            )

    def _add_unknown(self, judgment: str, line: int) -> None:
        shown = judgment if len(judgment) <= MAX_JUDGMENT else judgment[:MAX_JUDGMENT] + "…"
        if shown in self._unknown or len(self._unknown) <= MAX_UNKNOWN:
            self._unknown_counts[shown] += 1
            if len(lines := self._unknown.setdefault(shown, [])) < 5:
                lines.append(line)


def _explained(cell: str, known: dict[str, str]) -> str:
    """The word of `known` that is the judgment of a cell which holds more; empty without one, or with two."""
    found = set()
    for line in (cell.partition("\n")[0], cell.rpartition("\n")[2]):
        if len(line) > 4 * MAX_JUDGMENT:
            line = f"{line[: 2 * MAX_JUDGMENT]}…{line[-2 * MAX_JUDGMENT :]}"
        sentences = [word for part in SENTENCE_END.split(line) if (word := EDGES.sub("", part).casefold())]
        found |= {word for word in (*sentences[:1], *sentences[-1:]) if word in known and not word.isdigit()}
    return found.pop() if len(found) == 1 else ""
