"""Cron as KFP reads it: what is accepted, what it means, when it fires next."""

import itertools
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.problems import Problems
from pipeline.cluster.cron import FIELDS, Cron, Field, parse_cron, read_cron

NOW = datetime(2026, 11, 22, 21, 15, 30, tzinfo=UTC)  # a Sunday


def times(text: str, count: int, now: datetime = NOW) -> list[str]:
    return [f"{t:%Y-%m-%d %H:%M:%S}" for t in itertools.islice(parse_cron(text).times_after(now), count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 2 * * *", ["2026-11-23 02:00:00", "2026-11-24 02:00:00"]),
        ("0 15 21 * * *", ["2026-11-23 21:15:00", "2026-11-24 21:15:00"]),
        ("31 15 21 * * *", ["2026-11-22 21:15:31", "2026-11-23 21:15:31"]),
        ("30 15 21 * * *", ["2026-11-23 21:15:30"]),  # later than now, not now
        ("* * * * * *", ["2026-11-22 21:15:31", "2026-11-22 21:15:32"]),
        ("0 0 0 29 2 *", ["2028-02-29 00:00:00"]),
        ("0 0 0 29 feb ?", ["2028-02-29 00:00:00"]),
        ("0 0 0 31 * *", ["2026-12-31 00:00:00", "2027-01-31 00:00:00", "2027-03-31 00:00:00"]),
        ("0 0 9 * * MON-FRI", [f"2026-11-{day} 09:00:00" for day in range(23, 28)] + ["2026-11-30 09:00:00"]),
        ("0 0 9 * * 0", ["2026-11-29 09:00:00"]),
        ("0 0 9 * * sat,Sun", ["2026-11-28 09:00:00", "2026-11-29 09:00:00"]),
        ("0 10/20 3 * * *", ["2026-11-23 03:10:00", "2026-11-23 03:30:00", "2026-11-23 03:50:00"]),
        (
            "0 */25 22 * * *",
            ["2026-11-22 22:00:00", "2026-11-22 22:25:00", "2026-11-22 22:50:00", "2026-11-23 22:00:00"],
        ),
        ("0 0 8-18/5 * * *", ["2026-11-23 08:00:00", "2026-11-23 13:00:00", "2026-11-23 18:00:00"]),
        ("5,10 0 0 1 1,7 *", ["2027-01-01 00:00:05", "2027-01-01 00:00:10", "2027-07-01 00:00:05"]),
        # day of month and day of week: either of them, but both where one has a star, a step included
        ("0 0 0 1 * MON", ["2026-11-23 00:00:00", "2026-11-30 00:00:00", "2026-12-01 00:00:00", "2026-12-07 00:00:00"]),
        ("0 0 0 */2 * MON", ["2026-11-23 00:00:00", "2026-12-07 00:00:00", "2026-12-21 00:00:00"]),
    ],
)
def test_next_times(text: str, expected: list[str]) -> None:
    assert times(text, len(expected)) == expected


def test_next_times_are_utc_whatever_the_clock_says() -> None:
    tokyo = datetime.fromisoformat("2026-11-23T10:30:00+09:00")  # 01:30 UTC

    assert times("0 0 2 * * *", 1, tokyo) == ["2026-11-23 02:00:00"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 0 2 * * 0", "at 02:00, Sunday"),
        ("0 30 2 * * MON-FRI", "at 02:30, Monday to Friday"),
        ("30 0 2,14 * * *", "at 02:00:30 and 14:00:30, every day"),
        ("0 0 * * * *", "minute 0 of every hour, every day"),
        ("0 2 * * * *", "minute 2 of every hour, every day"),
        ("0 * * * * *", "every minute, every day"),
        ("* * * * * *", "every second of every minute of every hour, every day"),
        ("0 */15 9-17 * * *", "every 15th minute from 0 to 45 of hours 9 to 17, every day"),
        ("0 0 0 1 1 *", "at 00:00, on day 1 of the month in January"),
        ("0 0 0 1,15 * MON", "at 00:00, on day 1 and 15 of the month or on Monday"),
        ("0 0 0 */15 * MON", "at 00:00, on day 1, 16 and 31 of the month when that is Monday"),
        ("0 0 6 * jun-aug sat", "at 06:00, Saturday in June to August"),
    ],
)
def test_words(text: str, words: str) -> None:
    assert parse_cron(text).words() == words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 2 * * *", "use --cron '0 0 2 * * *', which is at 02:00, every day"),
        ("30 4 1,15 * 5", "use --cron '0 30 4 1,15 * 5'"),
        ("0 2 * * 7", "use --cron '0 0 2 * * 0', which is at 02:00, Sunday"),
        ("61 2 * * *", "Sundays at 02:00"),
        ("@daily", "use --cron '0 0 0 * * *'"),
        ("@every 1h", "has 2 fields"),
        ("", "has 0 fields"),
        ("0 0 2 * * * 2027", "has 7 fields"),
        ("60 * * * * *", "second '60' is out of range"),
        ("0 0 24 * * *", "hour '24' is out of range"),
        ("0 0 0 0 * *", "day of month '0' is out of range"),
        ("0 0 0 32 * *", "day of month '32' is out of range"),
        ("0 0 0 1 13 *", "month '13' is out of range"),
        ("0 0 0 * * 7", "Sunday is 0 or SUN"),
        ("0 0 0 * * FRI-MON", "write FRI-SAT,SUN-MON"),
        ("0 50-10 * * * *", "write 50-59,0-10"),
        ("0 */0 * * * *", "has the step 0"),
        ("0 0 0 * * MONDAY", "'MONDAY' is out of range"),
        ("0 0 0 L * *", "'L' is out of range"),
        ("0 0 0 * * 1#2", "'1#2' cannot be read"),
        ("0 0,,5 * * * *", "minute '' cannot be read"),
        ("0 *-5 * * * *", "minute '*-5' cannot be read"),
        ("0 ٣ * * * *", "cannot be read"),
        ("0 0 0 30 2 *", "never comes"),
        ("0 0 0 31 4,6,9,11 *", "never comes"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(Problems, match=re.escape(said)):
        read_cron(text, NOW)


def test_a_leap_day_that_is_too_far_off_is_refused() -> None:
    """KFP looks five years ahead; the next 29 February on a Sunday is in 2032."""
    with pytest.raises(Problems, match="never comes"):
        read_cron("0 0 0 29 2 */7", NOW)
    assert times("0 0 0 29 2 */7", 1, NOW + timedelta(days=365)) == ["2032-02-29 00:00:00"]


def test_all_wrong_fields_are_named_at_once() -> None:
    with pytest.raises(Problems) as error:
        parse_cron("60 61 24 0 13 8")
    assert len(error.value.problems) == len(FIELDS)
    assert [p.where for p in error.value.problems] == [f"--cron, field {n}" for n in range(1, 7)]


@st.composite
def fields(draw: st.DrawFn, field: Field) -> tuple[str, set[int]]:
    """A field's text with the values that it stands for."""
    texts, values = [], set()
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(field.least, field.most))
        last = draw(st.integers(first, field.most))
        step = draw(st.integers(1, 20))
        kind = draw(st.sampled_from(["*", "*/n", "a", "a-b", "a-b/n", "a/n", "name"]))
        text, found = {
            "*": ("*", range(field.least, field.most + 1)),
            "*/n": (f"*/{step}", range(field.least, field.most + 1, step)),
            "a": (f"{first}", range(first, first + 1)),
            "a-b": (f"{first}-{last}", range(first, last + 1)),
            "a-b/n": (f"{first}-{last}/{step}", range(first, last + 1, step)),
            "a/n": (f"{first}/{step}", range(first, field.most + 1, step)),
            "name": (field.names[first - field.least] if field.names else f"{first}", range(first, first + 1)),
        }[kind]
        texts.append(text)
        values |= set(found)
    return ",".join(texts), values


EXPRESSIONS = st.tuples(*map(fields, FIELDS))
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))


def matches(parts: tuple[tuple[str, set[int]], ...], moment: datetime) -> bool:
    """The rule, written a second time."""
    second, minute, hour, day, month, weekday = (values for _, values in parts)
    in_month, in_week = moment.day in day, int(moment.strftime("%w")) in weekday
    star = "*" in parts[3][0] or "*" in parts[5][0]
    return (
        (in_month and in_week if star else in_month or in_week)
        and moment.month in month
        and (moment.hour in hour and moment.minute in minute and moment.second in second)
    )


def parsed(parts: tuple[tuple[str, set[int]], ...]) -> Cron:
    return parse_cron(" ".join(text for text, _ in parts))


@given(EXPRESSIONS, MOMENTS)
def test_next_times_increase_and_match_the_fields(parts: tuple[tuple[str, set[int]], ...], now: datetime) -> None:
    before = now
    for found in itertools.islice(parsed(parts).times_after(now), 5):
        assert found > before
        assert matches(parts, found)
        before = found


@given(EXPRESSIONS, MOMENTS)
def test_no_time_that_matches_is_left_out(parts: tuple[tuple[str, set[int]], ...], now: datetime) -> None:
    """Every second of the quarter of an hour before the next time, and every hour of the month before, is looked at."""
    found = next(parsed(parts).times_after(now), None)
    if found is None:
        return
    for step, count in ((timedelta(seconds=1), 900), (timedelta(hours=1), 744)):
        earlier = (found - number * step for number in range(1, count))
        assert not [moment for moment in itertools.takewhile(lambda m: m > now, earlier) if matches(parts, moment)]


@given(EXPRESSIONS)
def test_every_expression_has_words(parts: tuple[tuple[str, set[int]], ...]) -> None:
    assert re.fullmatch(r"[A-Za-z0-9:, ]+", parsed(parts).words())
