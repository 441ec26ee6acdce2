"""When a schedule fires: cron as KFP reads it, six fields with the seconds first.

    second minute hour day-of-month month day-of-week
    0      30     2    *            *     MON-FRI       at 02:30, Monday to Friday

A field is * (or ?), or a list of n, a-b, n/step, a-b/step and */step; months and days of the week have English names of
three letters, Sunday is 0. Where day of month and day of week are both given, either of them is enough; where one of
them has a star in it, both must hold. KFP looks five years ahead and no further. (robfig/cron, version 1, is what the
controller of scheduled workflows parses with; it takes five fields, too, as second to month.)
"""

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta

from components.shared.problems import Checks, Problems, problem, quote

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
YEARS_AHEAD = 5  # where KFP's controller stops to look for the next time
TIMES_SPELLED_OUT = 6
ITEM = re.compile(
    r"(?:(?P<star>[*?])|(?P<first>[A-Za-z]+|\d{1,9})(?:-(?P<last>[A-Za-z]+|\d{1,9}))?)(?:/(?P<step>\d{1,9}))?", re.A
)
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
class Field:
    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()
    """Names of the values, from the least on."""

    @property
    def every(self) -> frozenset[int]:
        return frozenset(range(self.least, self.most + 1))


FIELDS = (
    Field(name="second", least=0, most=59),
    Field(name="minute", least=0, most=59),
    Field(name="hour", least=0, most=23),
    Field(name="day of month", least=1, most=31),
    Field(name="month", least=1, most=12, names=tuple(name[:3].upper() for name in MONTHS)),
    Field(name="day of week", least=0, most=6, names=tuple(name[:3].upper() for name in WEEKDAYS)),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cron:
    """A cron expression, parsed."""

    text: str
    """The six fields with single blanks between."""
    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    """Days of the month."""
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    either_day: bool
    """A day of the month or of the week is enough; otherwise both must hold."""

    def fires_on(self, day: date) -> bool:
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and ((of_month or of_week) if self.either_day else (of_month and of_week))

    def times_after(self, moment: datetime) -> Iterator[datetime]:
        """The times later than `moment`, in UTC, as far as KFP looks ahead; none when there are none."""
        moment = moment.astimezone(UTC)
        day = moment.date()
        while day.year <= moment.year + YEARS_AHEAD:
            if self.fires_on(day):
                hours = sorted(hour for hour in self.hours if day > moment.date() or hour >= moment.hour)
                for clock in itertools.product(hours, sorted(self.minutes), sorted(self.seconds)):
                    found = datetime.combine(day, time(*clock), tzinfo=UTC)
                    if found > moment:
                        yield found
            day += timedelta(days=1)

    def words(self) -> str:
        """The expression in plain words: 'at 02:30, Monday to Friday'."""
        return f"{self._clock_words()}, {self._day_words()}"

    def _clock_words(self) -> str:
        seconds, minutes, hours = (sorted(values) for values in (self.seconds, self.minutes, self.hours))
        if len(seconds) * len(minutes) * len(hours) <= TIMES_SPELLED_OUT:
            clocks = itertools.product(hours, minutes, seconds)
            shown = (f"{h:02d}:{m:02d}" + (f":{s:02d}" if seconds != [0] else "") for h, m, s in clocks)
            return f"at {_and(list(shown))}"
        parts = [] if seconds == [0] else [_counted("second", self.seconds, FIELDS[0])]
        parts.append(_counted("minute", self.minutes, FIELDS[1]))
        if parts != ["every minute"] or self.hours != FIELDS[2].every:
            parts.append(_counted("hour", self.hours, FIELDS[2]))
        return " of ".join(parts)

    def _day_words(self) -> str:
        months = "" if self.months == FIELDS[4].every else " in " + _spans(self.months, lambda n: MONTHS[n - 1])
        days = "" if self.days == FIELDS[3].every else f"day {_spans(self.days, str)} of the month"
        weekdays = "" if self.weekdays == FIELDS[5].every else _spans(self.weekdays, lambda n: WEEKDAYS[n])
        if self.either_day:
            return f"on {days or 'every day'} or on {weekdays or 'every day'}{months}"
        if days and weekdays:
            return f"on {days} when that is {weekdays}{months}"
        if days:
            return f"on {days}{months}"
        return f"{weekdays or 'every day'}{months}"


def read_cron(text: str, now: datetime) -> Cron:
    """Parse an expression that will fire.

    Raises:
        Problems: naming every field that is wrong; for five fields, with the six that were meant; for dates that never
            come.
    """
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
    """Parse an expression.

    Raises:
        Problems: naming every field that is wrong; for five fields, with the six that were meant.
    """
    parts = text.split()
    if len(parts) != len(FIELDS):
        raise _wrong_count(text, parts)
    checks = Checks()
    values = [_field_values(part, field, checks) for part, field in zip(parts, FIELDS, strict=True)]
    checks.raise_if_any()
    seconds, minutes, hours, days, months, weekdays = values
    return Cron(
        text=" ".join(parts),
        seconds=seconds,
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=weekdays,
        either_day=not any(star in part for part in (parts[3], parts[5]) for star in "*?"),
    )


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
    return problem(what, where="--cron", rule=f"six fields: {', '.join(f.name for f in FIELDS)}", remedy=remedy)


def _field_values(part: str, field: Field, checks: Checks) -> frozenset[int]:
    """The values that a field stands for; what is wrong with it is added to `checks`."""
    names = f", or {field.names[0]} to {field.names[-1]}" if field.names else ""
    found: set[int] = set()
    for item in part.split(","):
        why = ""
        match = ITEM.fullmatch(item)
        if match is None:
            why = "cannot be read"
        else:
            first = field.least if match["star"] else _value(match["first"], field)
            last = first
            if match["star"] or (match["step"] and not match["last"]):
                last = field.most
            elif match["last"]:
                last = _value(match["last"], field)
            step = int(match["step"] or 1)
            if first is None or last is None or not (field.least <= first <= field.most) or last > field.most:
                why = "is out of range"
            elif first > last:
                why = f"runs backwards; write {match['first']}-{_shown(field.most, field)},"
                why += f"{_shown(field.least, field)}-{match['last']}"
            elif step == 0:
                why = "has the step 0"
            else:
                found.update(range(first, last + 1, step))
        if why:
            sunday = "; Sunday is 0 or SUN" if field.name == "day of week" and "7" in item else ""
            checks.add(
                f"{field.name} {quote(item)} {why}{sunday}",
                where=f"--cron, field {FIELDS.index(field) + 1}",
                rule=f"{field.least} to {field.most}{names}; *, lists a,b, ranges a-b and steps */n, a-b/n",
                remedy="correct the field",
            )
    return frozenset(found)


def _value(text: str, field: Field) -> int | None:
    """A value's number; None for a name that is none."""
    if text.isdecimal():
        return int(text)
    return field.names.index(text.upper()) + field.least if text.upper() in field.names else None


def _shown(value: int, field: Field) -> str:
    return field.names[value - field.least] if field.names else str(value)


def _counted(name: str, values: frozenset[int], field: Field) -> str:
    """'every minute', 'minute 5', 'minutes 0 to 10', 'every 5th minute from 0 to 55'."""
    ordered = sorted(values)
    gaps = {later - earlier for earlier, later in itertools.pairwise(ordered)}
    if values == field.every:
        return f"every {name}"
    if len(ordered) > 3 and len(gaps) == 1 and gaps != {1}:
        return f"every {_ordinal(gaps.pop())} {name} from {ordered[0]} to {ordered[-1]}"
    return f"{name}{'s' if len(ordered) > 1 else ''} {_spans(values, str)}"


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"


def _spans(values: frozenset[int], show: Callable[[int], str]) -> str:
    """'1, 3 and 5 to 9': three and more neighbours as a range."""
    spans: list[list[int]] = []
    for value in sorted(values):
        if spans and spans[-1][-1] == value - 1:
            spans[-1].append(value)
        else:
            spans.append([value])
    texts = []
    for span in spans:
        texts += [f"{show(span[0])} to {show(span[-1])}"] if len(span) > 2 else [show(value) for value in span]
    return _and(texts)


def _and(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
