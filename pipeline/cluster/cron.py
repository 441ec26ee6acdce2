"""When a schedule fires: cron as KFP reads it, six fields with the seconds first.

    second minute hour day-of-month month day-of-week
    0      30     2    *            *     MON-FRI       at 02:30 on Monday through Friday

A field is * (or ?), or a list of n, a-b, n/step, a-b/step and */step; months and days of the week have English names of
three letters, Sunday is 0. Where day of month and day of week are both given, either of them is enough; where one of
them has a star in it, both must match. KFP's controller of scheduled workflows parses with robfig/cron, version 1, and
looks five years ahead. cronsim computes the same times; what it reads in another way is refused or rewritten here.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError
from cronsim.explain import explain

from components.shared.problems import Checks, Problems, problem, quote

YEARS_AHEAD = 5
FIELDS = {
    "second": "0 to 59",
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day of month": "1 to 31",
    "month": "1 to 12, or JAN to DEC",
    "day of week": "0 to 6, or SUN to SAT; Sunday is 0",
}
"""Each field's values."""
NAMES = {
    4: ("_", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"),
    5: ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"),
}
# cronsim also takes L, LW, # and 7 for Sunday, which robfig/cron does not.
LIST = re.compile(r"(([*?]|\w{1,9}(-\w{1,9})?)(/\d{1,9})?(,(?!$)|$))+", re.ASCII)
ORDINALS = {"1th": "1st", "2th": "2nd", "3th": "3rd"}
NICKNAMES = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cron:
    """A cron expression that can be parsed."""

    text: str
    """The six fields with single blanks between."""

    def times_after(self, moment: datetime) -> Iterator[datetime]:
        """The times later than `moment`, in UTC, as far as KFP looks ahead; none when there are none."""
        moment = moment.astimezone(UTC)
        with contextlib.suppress(CronSimError):  # a day that its months do not have
            for time in CronSim(_for_cronsim(self.text), moment):
                if time.year > moment.year + YEARS_AHEAD:
                    return
                yield time

    def words(self) -> str:
        """'at 02:30 on Monday through Friday'."""
        text = explain(_for_cronsim(self.text))
        text = re.sub(r"(?<=[2-5])[123]th\b", lambda found: ORDINALS[found[0]], text)  # cronsim's "22th"
        return text[0].lower() + text[1:]


def read_cron(text: str, now: datetime) -> Cron:
    """Parse an expression that will fire. Raises Problems naming every field that is wrong; for five fields, with the
    six that were meant; for dates that never come."""
    cron = parse_cron(text)
    if next(cron.times_after(now), None) is None:
        raise problem(
            f"{quote(cron.text)} never comes: {cron.words()}",
            where="--cron",
            rule=f"a date that comes within {YEARS_AHEAD} years, which is how far KFP looks ahead",
            remedy="correct the day of month, the month or the day of week",
        )
    return cron


def parse_cron(text: str) -> Cron:
    """Parse an expression. Raises Problems naming every field that is wrong; for five fields, with the six that were
    meant."""
    parts = text.split()
    if len(parts) != len(FIELDS):
        raise _wrong_count(text, parts)
    checks = Checks()
    for number, (name, values) in enumerate(FIELDS.items()):
        if not _is_field(parts[number], number):
            checks.add(
                f"{name} {quote(parts[number])} cannot be used",
                where=f"--cron, field {number + 1}",
                rule=f"{values}; *, lists a,b, steps */n and a-b/n, ranges a-b with a not above b",
                remedy="correct the field",
            )
    checks.raise_if_any()
    return Cron(text=" ".join(parts))


def _is_field(part: str, number: int) -> bool:
    foreign = {3: "[LW]", 5: r"\dL|(^|[,-])0*7\b"}.get(number)
    if not LIST.fullmatch(part) or (foreign and re.search(foreign, part, re.ASCII | re.IGNORECASE)):
        return False
    alone = ["*"] * len(FIELDS)
    alone[number] = part
    try:
        CronSim(_for_cronsim(" ".join(alone)), datetime.now(UTC))
    except CronSimError:
        return False
    return True


def _for_cronsim(text: str) -> str:
    """The same times for cronsim, which knows no ?, looks for a star only at the start of a list, has a day 7,
    Sunday, and reads a-a/n as a/n."""
    parts = text.upper().replace("?", "*").split()
    for number, names in NAMES.items():
        parts[number] = re.sub("|".join(names), lambda name, names=names: str(names.index(name[0])), parts[number])  # type: ignore[misc]
    parts[5] = re.sub(r"(^|,)(\d+)/", r"\1\2-6/", parts[5])
    ordered = (",".join(sorted(part.split(","), key=lambda item: "*" not in item)) for part in parts)
    return " ".join(re.sub(r"\b0*(\d+)-0*\1/0*[1-9]\d*", r"\1", part) for part in ordered)


def _wrong_count(text: str, parts: list[str]) -> Problems:
    meant = NICKNAMES.get(text.strip().lower(), "")
    if len(parts) == len(FIELDS) - 1:
        meant = " ".join(["0", *parts[:-1], re.sub(r"\b7\b", "0", parts[-1])])
        what = f"{quote(text)} has five fields; KFP would take the first one for the seconds"
    else:
        what = f"{quote(text)} has {len(parts)} field{'' if len(parts) == 1 else 's'}"
    remedy = "for instance --cron '0 0 2 * * 0', Sundays at 02:00"
    if meant:
        with contextlib.suppress(Problems):  # the five fields are wrong in themselves, too
            remedy = f"use --cron '{meant}', which is {parse_cron(meant).words()}"
    return problem(what, where="--cron", rule=f"six fields: {', '.join(FIELDS)}", remedy=remedy)
