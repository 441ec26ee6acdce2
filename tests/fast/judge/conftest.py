"""What the tests of judges at endpoints need: surroundings without the user's own, and a judge that pauses shortly."""

import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from components.grading.cases import Case, Verdict
from components.grading.endpoint_judge import KEY_VARIABLE, EndpointJudge
from tests.judge_server import RIGHT, JudgeServer, Reply, Request, Script

MAX_TEST_SECONDS = 300
TIMEOUT_SECONDS, SLOW_TIMEOUT_SECONDS = 60.0, 0.2  # the second for replies that do not come in time
KEY = "sk-Zq8vB1nXw5Tt0LrYc3Ue7Ja9"
SASH = Case("What colour is a master's sash?", "crimson", "A master's sash is crimson.")
LAMPS = Case("How many lamps does a journeyman tend?", "forty", "A journeyman tends four lamps.")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The judge's key, nothing else from the environment, short pauses, and an end to whatever hangs."""
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "BASE_URL", "CUSTOM_HEADERS", "LOG"):
        monkeypatch.delenv(f"OPENAI_{name}", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))  # no certificates: reading them takes longer than a test
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    monkeypatch.setattr("components.grading.pacing.FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("components.grading.pacing.MAX_PAUSE_SECONDS", 0.001)

    def end(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {MAX_TEST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, MAX_TEST_SECONDS, 1)  # and again: the judge waits for its threads
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def judge(server: JudgeServer, *replies: Reply, concurrency: int = 8) -> EndpointJudge:
    """One that gives up soon when one of the replies is slow."""
    slow = any(reply.delay_seconds for reply in replies)
    timeout_seconds = SLOW_TIMEOUT_SECONDS if slow else TIMEOUT_SECONDS
    return EndpointJudge(
        server.url, "judge-model", concurrency=concurrency, timeout_seconds=timeout_seconds, reply_tokens=400
    )


def ignore(case: Case, verdict: Verdict) -> None:
    """For tests that look at what is returned."""


def verdict_after(*replies: Reply) -> tuple[Verdict, list[Request]]:
    """The verdict on a case to which the endpoint sends these replies, and what it was asked."""
    with JudgeServer(lambda case: replies) as server:
        verdicts = judge(server, *replies).verdicts([SASH], ignore)
    assert list(verdicts) == [SASH]
    return verdicts[SASH], server.asked


def asked_for(*cases: Case, script: Script = lambda case: [RIGHT], concurrency: int = 8) -> list[Request]:
    """What the endpoint is asked for these cases."""
    with JudgeServer(script) as server:
        assert set(judge(server, concurrency=concurrency).verdicts(cases, ignore)) == set(cases)
    return server.asked
