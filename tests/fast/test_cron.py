"""Cron as KFP reads it: what is accepted, what it means, when it fires next."""

import itertools
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.problems import Problems
from pipeline.cluster.cron import FIELDS, parse_cron, read_cron
from tests.fast.conftest import problems_of

NOW = datetime(2026, 11, 22, 21, 15, 30, tzinfo=UTC)  # a Sunday


def times(text: str, count: int, now: datetime = NOW) -> list[str]:
    return [f"{t:%Y-%m-%d %H:%M:%S}" for t in itertools.islice(parse_cron(text).times_after(now), count)]


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("0 0 2 * * *", "at 02:00 every day", ["2026-11-23 02:00:00", "2026-11-24 02:00:00"]),
        ("31 15 21 * * *", "at 21:15:31 every day", ["2026-11-22 21:15:31", "2026-11-23 21:15:31"]),
        ("30 15 21 * * *", "at 21:15:30 every day", ["2026-11-23 21:15:30"]),  # later than now, not now
        ("0 2 * * * *", "at minute 2 of every hour", ["2026-11-22 22:02:00"]),
        ("0 0 0 29 feb ?", "at 00:00 on February 29", ["2028-02-29 00:00:00"]),
        ("0 0 0 22 * *", "at 00:00 on the 22nd day of every month", ["2026-12-22 00:00:00"]),
        ("0 0 9 * * sat,Sun", "at 09:00 on Saturday and Sunday", ["2026-11-28 09:00:00", "2026-11-29 09:00:00"]),
        ("0 0 9 * * FRI/2", "", ["2026-11-27 09:00:00", "2026-12-04 09:00:00"]),  # and no Sunday
        ("0 10/20 3 * * *", "every 20th minute", ["2026-11-23 03:10:00", "2026-11-23 03:30:00"]),
        ("0 7-7/20 3 * * *", "at 03:07 every day", ["2026-11-23 03:07:00", "2026-11-24 03:07:00"]),
        # Day of month and day of week: either of them, but both where one has a star, wherever in its list.
        ("0 0 0 1 * MON", "", ["2026-11-23 00:00:00", "2026-11-30 00:00:00", "2026-12-01 00:00:00"]),
        ("0 0 0 */2 * MON", "", ["2026-11-23 00:00:00", "2026-12-07 00:00:00", "2026-12-21 00:00:00"]),
        ("0 0 0 1,*/2 * 1", "", ["2026-11-23 00:00:00", "2026-12-07 00:00:00", "2026-12-21 00:00:00"]),
    ],
)
def test_words_and_next_times(text, words, expected):
    assert parse_cron(text).words().startswith(words)
    assert times(text, len(expected)) == expected


def test_next_times_are_utc_whatever_the_clock_says():
    tokyo = datetime.fromisoformat("2026-11-23T10:30:00+09:00")  # 01:30 UTC

    assert times("0 0 2 * * *", 1, tokyo) == ["2026-11-23 02:00:00"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 2 * * *", "use --cron '0 0 2 * * *', which is at 02:00 every day"),
        ("0 2 * * 7", "use --cron '0 0 2 * * 0', which is at 02:00 on Sunday"),
        ("61 2 * * *", "Sundays at 02:00"),
        ("@daily", "use --cron '0 0 0 * * *'"),
        ("@every 1h", "has 2 fields"),
        ("", "has 0 fields"),
        ("0 0 2 * * * 2027", "has 7 fields"),
        ("60 * * * * *", "second '60' cannot be used"),
        ("0 0 0 0 * *", "day of month '0' cannot be used"),
        ("0 0 0 1 13 *", "1 to 12, or JAN to DEC"),
        ("0 0 0 * * 7", "Sunday is 0"),
        ("0 0 0 * * FRI-MON", "ranges a-b with a not above b"),
        ("0 */0 * * * *", "minute '*/0' cannot be used"),
        ("0 6-6/0 * * * *", "minute '6-6/0' cannot be used"),
        ("0 0 0 * * MONDAY", "'MONDAY' cannot be used"),
        ("0 MON * * * *", "'MON' cannot be used"),
        ("0 0 0 L * *", "'L' cannot be used"),
        ("0 0 0 * * 5L", "'5L' cannot be used"),
        ("0 0 0 * * 1#2", "'1#2' cannot be used"),
        ("0 0,,5 * * * *", "minute '0,,5' cannot be used"),
        ("0 *-5 * * * *", "minute '*-5' cannot be used"),
        ("0 ٣ * * * *", "cannot be used"),
        ("0 0 0 30 2 *", "never comes: at 00:00 on February 30"),
        ("0 0 0 31 4,6,9,11 *", "never comes"),
        ("0 0 0 29 2 */7", "never comes"),  # until 2032, and KFP looks five years ahead
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(Problems, match=re.escape(message)):
        read_cron(text, NOW)


def test_all_wrong_fields_are_named_at_once():
    found = problems_of(parse_cron, "60 61 24 0 13 8")

    assert [problem.where for problem in found] == [f"--cron, field {number + 1}" for number in range(len(FIELDS))]


RANGES = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


@st.composite
def fields(draw: st.DrawFn, low: int, high: int) -> tuple[str, set[int]]:
    """A field's text with the values that it stands for."""
    texts, values = [], set()
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(low, high))
        last = draw(st.integers(first, high))
        step = draw(st.integers(1, 20))
        text, found = draw(
            st.sampled_from(
                [
                    ("*", range(low, high + 1)),
                    (f"*/{step}", range(low, high + 1, step)),
                    (f"{first}", range(first, first + 1)),
                    (f"{first}-{last}", range(first, last + 1)),
                    (f"{first}-{last}/{step}", range(first, last + 1, step)),
                    (f"{first}/{step}", range(first, high + 1, step)),
                ]
            )
        )
        texts.append(text)
        values |= set(found)
    return ",".join(texts), values


@given(
    st.tuples(*(fields(low, high) for low, high in RANGES)),
    st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC)),
)
def test_times_match_the_fields_and_none_is_left_out(parts, now):
    """Every second of the quarter of an hour before the next time, and every hour of the month before, is looked at."""
    (second, minute, hour, day, month, weekday) = (values for _, values in parts)
    star = "*" in parts[3][0] or "*" in parts[5][0]

    def matches(time: datetime) -> bool:
        in_month, in_week = time.day in day, int(time.strftime("%w")) in weekday
        days = in_month and in_week if star else in_month or in_week
        return days and time.month in month and time.hour in hour and time.minute in minute and time.second in second

    found = next(parse_cron(" ".join(text for text, _ in parts)).times_after(now), None)
    if found is None:
        return
    assert found > now
    assert matches(found)
    for step, count in ((timedelta(seconds=1), 900), (timedelta(hours=1), 744)):
        earlier = (found - number * step for number in range(1, count))
        assert not [time for time in itertools.takewhile(lambda time: time > now, earlier) if matches(time)]
