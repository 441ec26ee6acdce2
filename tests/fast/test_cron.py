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
from tests.tables import table

NOW = datetime(2026, 11, 22, 21, 15, 30, tzinfo=UTC)  # a Sunday


def times(text: str, count: int, now: datetime = NOW) -> list[str]:
    return [f"{t:%Y-%m-%d %H:%M:%S}" for t in itertools.islice(parse_cron(text).times_after(now), count)]


@pytest.mark.parametrize(("text", "words", "expected"), table("cron", "words"))
def test_words_and_next_times(text, words, expected):
    assert parse_cron(text).words().startswith(words)
    assert times(text, len(expected)) == expected


def test_next_times_are_utc_whatever_the_clock_says():
    tokyo = datetime.fromisoformat("2026-11-23T10:30:00+09:00")  # 01:30 UTC

    assert times("0 0 2 * * *", 1, tokyo) == ["2026-11-23 02:00:00"]


@pytest.mark.parametrize(("text", "message"), table("cron", "refused"))
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
