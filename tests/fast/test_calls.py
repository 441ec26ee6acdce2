"""How a call to a server is bounded and made again."""

import itertools
import threading
import time

import pytest

from components.shared.calls import Deadline, OutOfTime, TooLong, call_again, count_of, join, retry_after_seconds
from components.shared.problems import Problems, problem

LONG = "9" * 400


def test_what_comes_in_time_is_passed_on_with_its_errors():
    def items():
        yield from (1, 2)
        raise KeyError("three")

    passed = Deadline(5).each(items())
    assert [next(passed), next(passed)] == [1, 2]
    with pytest.raises(KeyError):
        next(passed)
    assert Deadline(5).call(lambda: "answer") == "answer"
    with pytest.raises(ZeroDivisionError):
        Deadline(5).call(lambda: 1 / 0)


def test_what_trickles_or_stalls_ends_in_time_and_is_asked_for_no_more():
    ended = threading.Event()

    def trickle():
        try:
            while True:
                time.sleep(0.02)
                yield b"x"
        finally:
            ended.set()

    for wait in (lambda: list(Deadline(0.2).each(trickle())), lambda: Deadline(0.2).call(lambda: time.sleep(60))):
        started = time.monotonic()
        with pytest.raises(OutOfTime):
            wait()
        assert 0.2 <= time.monotonic() - started < 1
    assert ended.wait(1)


def test_progress_renews_a_deadline():
    deadline = Deadline(0.2)
    for _ in deadline.each(time.sleep(0.05) for _ in range(10)):
        deadline.renew()

    assert deadline.seconds_left > 0


def test_endless_answer_is_not_held():
    with pytest.raises(TooLong):
        join(itertools.repeat(bytes(1000)), 5000)
    assert join([b"a", b"b"], 2) == b"ab"


@pytest.mark.parametrize(
    ("may_pass", "asks_for", "calls", "seconds"), [(True, 0.0, 3, 0.02), (True, 0.1, 3, 0.2), (False, 0.0, 1, 0.0)]
)
def test_call_is_made_again_for_what_may_pass_and_as_late_as_the_server_asks(may_pass, asks_for, calls, seconds):
    made = []

    def call():
        made.append(0)
        error = problem("away", where="there", rule="be here", remedy="wait", may_pass=may_pass)
        error.retry_after_seconds = asks_for
        raise error

    started = time.monotonic()
    with pytest.raises(Problems):
        call_again(call, (0.01, 0.01))

    assert len(made) == calls
    assert seconds <= time.monotonic() - started < seconds + 0.1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "soon"}, None),
        ({"Retry-After": "0"}, 0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "١"}, None),
        ({"retry-after": LONG}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 -0000"}, 30),
        ({"retry-after": f"Wed, 21 Oct {LONG} 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": f"Wed, 21 Oct 2026 07:28:30 +{LONG}", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
    ],
)
def test_wait_that_a_server_asks_for(headers, seconds):
    assert retry_after_seconds(headers) == seconds


@pytest.mark.parametrize(
    ("text", "count"), [("0", 0), ("17", 17), ("²", None), ("١", None), ("-1", None), ("", None), (LONG, None)]
)
def test_bytes_that_a_header_states(text, count):
    assert count_of(text) == count
