"""Judges at endpoints as they are: asked as each wants it, at its pace, and nothing that it answered is lost."""

import threading
from collections import Counter
from typing import Any

import pytest

from components.grading.cases import Case, Verdict
from components.grading.pacing import MAX_FAILURES_IN_A_ROW
from tests.fast.conftest import only_problem_of, problems_of
from tests.fast.judge.conftest import LAMPS, SASH, ignore, judge
from tests.judge_endpoints import ENDPOINTS, MAX_TOKENS, error, refusing, without
from tests.judge_server import (
    CLOSED,
    HTML,
    PASSING,
    RATE_LIMITED,
    REFUSED,
    RIGHT,
    UNUSABLE,
    WRONG,
    JudgeServer,
    Reply,
    completion,
    refuses,
    reply,
)

VERDICTS = [name for name, expected in ENDPOINTS.items() if not expected.error]
ERRORS = [name for name, expected in ENDPOINTS.items() if expected.error]
MANY = [Case(f"Question {number}?", "crimson", "crimson") for number in range(100)]


@pytest.mark.parametrize("name", VERDICTS)
def test_endpoint_is_asked_as_it_wants_and_remembered(name: str) -> None:
    expected = ENDPOINTS[name]
    with JudgeServer(endpoint=expected.endpoint) as server:
        asked = judge(server)
        first = asked.verdicts([SASH], ignore)
        requests = len(server.asked)
        then = asked.verdicts([LAMPS], ignore)

    assert [first[SASH].right, then[LAMPS].right] == [expected.right] * 2
    assert (expected.right is None) <= bool(first[SASH].reason)
    assert (requests, len(server.asked)) == (expected.requests, expected.requests + 1)
    assert asked.adaptations == [change.words for change in expected.changes]


@pytest.mark.parametrize("name", ERRORS)
def test_endpoint_that_gives_no_verdict_is_an_error_in_its_words_with_what_to_do(name: str) -> None:
    expected = ENDPOINTS[name]
    with JudgeServer(endpoint=expected.endpoint) as server:
        asked = judge(server)
        problem = only_problem_of(asked.verdicts, [SASH], ignore)

    assert expected.error in problem.what
    assert expected.remedy in problem.remedy
    assert not problem.may_pass
    assert (len(server.asked), asked.adaptations) == (expected.requests, [])


def test_at_least_25_endpoints_of_four_makers_are_imitated() -> None:
    makers = Counter(name.split(":")[0] for name in ENDPOINTS)

    assert len(ENDPOINTS) >= 25
    assert min(makers[maker] for maker in ("OpenAI", "LiteLLM", "vLLM", "Ollama")) >= 4


def test_request_changes_in_what_was_refused_alone() -> None:
    with JudgeServer(endpoint=ENDPOINTS["OpenAI: o1-mini"].endpoint) as server:
        judge(server).verdicts([SASH], ignore)

    first, *_, last = (request.body for request in server.asked)
    system, user = first.pop("messages")
    (only,) = last.pop("messages")
    assert only["role"] == "user"
    assert only["content"].startswith(system["content"])
    assert only["content"].endswith(user["content"])
    assert last == {
        **{name: value for name, value in first.items() if name != "max_tokens"},
        "max_completion_tokens": 400,
    }


def test_what_did_not_help_is_not_remembered() -> None:
    """One case is too long; that its error names a parameter does not change how the others are asked."""
    long = error(400, "max_tokens is too large for this prompt", param="max_tokens")

    def endpoint(body: dict[str, Any]) -> Reply:
        return long if LAMPS.question in str(body) else RIGHT

    with JudgeServer(endpoint=endpoint) as server:
        asked = judge(server)
        asked.verdicts([SASH], ignore)
        only_problem_of(asked.verdicts, [LAMPS], ignore)

    assert asked.adaptations == []


def test_all_threads_learn_what_the_first_request_had_to_do_without() -> None:
    refused = error(400, MAX_TOKENS, param="max_tokens")
    with JudgeServer(endpoint=refusing(without("max_tokens", refused))) as server:
        verdicts = judge(server).verdicts(MANY, ignore)

    assert len(verdicts) == len(MANY)
    assert len(server.asked) == len(MANY) + 1


# What hits all


HIT_ALL = {
    **{name: (found, 1) for name, found in REFUSED.items()},
    "page": (reply(HTML, "text/html"), 3),
    "away": (CLOSED, 3),
    "quota until tomorrow": (refuses(429, "Come back.", Retry_After="86400"), 1),
    "never a verdict": (UNUSABLE["no JSON"], 3 * (MAX_FAILURES_IN_A_ROW + 8)),
    "always cut": (completion("", "length"), MAX_FAILURES_IN_A_ROW + 8),
}


@pytest.mark.parametrize("name", HIT_ALL)
def test_what_hits_all_ends_the_asking(name: str) -> None:
    sent, most = HIT_ALL[name]
    with JudgeServer(lambda case: [sent]) as server:
        problems = problems_of(judge(server).verdicts, MANY, ignore)

    assert len(server.asked) <= most
    assert f"{len(MANY) - len(problems)} more answers have no verdict" in problems[-1].what


def test_key_that_ends_on_the_way_ends_the_asking() -> None:
    lock, left = threading.Lock(), [20]

    def endpoint(body: dict[str, Any]) -> Reply:
        with lock:
            left[0] -= 1
            return RIGHT if left[0] >= 0 else REFUSED["401, the key in the message"]

    told: dict[Case, Verdict] = {}
    with JudgeServer(endpoint=endpoint) as server:
        problems_of(judge(server).verdicts, MANY, told.__setitem__)

    assert len(told) == 20
    assert len(server.asked) <= 20 + 8


# Nothing answered is lost


def test_each_verdict_is_told_in_the_calling_thread_though_others_fail() -> None:
    bad = MANY[::7]
    threads, told = set(), dict[Case, Verdict]()

    def on_verdict(case: Case, verdict: Verdict) -> None:
        threads.add(threading.get_ident())
        told[case] = verdict

    questions = {case.question for case in bad}
    with JudgeServer(lambda case: [REFUSED["400"] if case["question"] in questions else WRONG]) as server:
        asked = judge(server)
        asked.verdicts([SASH], ignore)
        problems = problems_of(asked.verdicts, MANY, on_verdict)

    assert set(told) == set(MANY) - set(bad)
    assert len(problems) == len(bad)
    assert threads == {threading.get_ident()}


def test_verdict_is_told_before_the_last_one_is_there() -> None:
    """The endpoint holds back one reply until another verdict was told."""
    told = threading.Event()

    def endpoint(body: dict[str, Any]) -> Reply:
        if LAMPS.question in str(body):
            assert told.wait(60)
        return RIGHT

    with JudgeServer(endpoint=endpoint) as server:
        asked = judge(server)
        asked.verdicts([MANY[0]], ignore)
        verdicts = asked.verdicts([SASH, LAMPS], lambda case, verdict: told.set())

    assert set(verdicts) == {SASH, LAMPS}


def test_caller_that_cannot_write_a_verdict_ends_the_asking() -> None:
    def full(case: Case, verdict: Verdict) -> None:
        raise OSError("no space left")

    with JudgeServer(lambda case: [RIGHT]) as server, pytest.raises(OSError, match="no space left"):
        judge(server).verdicts(MANY, full)

    assert len(server.asked) == 1


# Pace


def test_overloaded_endpoint_is_asked_less_at_a_time_until_all_is_graded() -> None:
    """It takes one request at a time: most of eight are refused, some of four, one of two, and then none."""
    lock, under_way, refused = threading.Lock(), [0], [0]

    def endpoint(body: dict[str, Any]) -> Reply:
        with lock:
            if under_way[0]:
                refused[0] += 1
                return RATE_LIMITED
            under_way[0] += 1
        server.closing.wait(0.01)
        with lock:
            under_way[0] -= 1
        return RIGHT

    with JudgeServer(endpoint=endpoint) as server:
        verdicts = judge(server).verdicts(MANY, ignore)

    assert len(verdicts) == len(MANY)
    assert refused[0] < 30


@pytest.mark.parametrize(
    ("replies", "concurrency", "at_a_time"),
    [
        ([RIGHT], 8, 8),
        ([RIGHT], 3, 3),
        ([RATE_LIMITED, RIGHT], 8, 4),
        ([RATE_LIMITED] * 5 + [RIGHT], 8, 1),
        ([refuses(503, "Loading."), RIGHT], 8, 4),
        ([refuses(429, "Slow down.", Retry_After="0.001"), RIGHT], 8, 8),
        ([PASSING["500"], RIGHT], 8, 8),
    ],
)
def test_requests_at_a_time_are_as_many_as_the_option_halved_by_each_overload_without_a_wait(
    replies: list[Reply], concurrency: int, at_a_time: int
) -> None:
    lock, under_way, most = threading.Lock(), [0], [0]
    reached, missed = threading.Event(), threading.Event()

    def script(case: dict[str, str]) -> list[Reply]:
        if case["question"] == SASH.question:
            return replies
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        if under_way[0] == at_a_time:
            reached.set()
        if not reached.wait(20):
            missed.set()
        server.closing.wait(0.01)
        with lock:
            under_way[0] -= 1
        return [RIGHT]

    with JudgeServer(script) as server:
        asked = judge(server, concurrency=concurrency)
        asked.verdicts([SASH], ignore)
        asked.verdicts(MANY[:40], ignore)

    assert (most[0], missed.is_set()) == (at_a_time, False)


@pytest.mark.parametrize("name", ["429", "503", "500", "closed before the reply"])
def test_faults_now_and_then_lose_nothing(name: str) -> None:
    lock, number = threading.Lock(), [0]

    def endpoint(body: dict[str, Any]) -> Reply:
        with lock:
            number[0] += 1
            return PASSING[name] if number[0] % 3 == 0 else RIGHT

    with JudgeServer(endpoint=endpoint) as server:
        assert len(judge(server).verdicts(MANY, ignore)) == len(MANY)
