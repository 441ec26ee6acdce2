"""Many requests to one endpoint, as many at a time as it bears: the first alone, fewer and later when it is overloaded.

    for case, outcome in Pace(8).outcomes(ask, cases):  # as they come: a verdict, or why there is none

What fails for a passing reason is asked again after a pause; pauses double until a verdict comes. What would fail for
all cases ends the asking.
"""

import collections
import dataclasses
import random
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from components.grading.cases import Case, Verdict

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 60.0
MAX_FAILURES_IN_A_ROW = 10  # then all others would fail as well


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """Why there is no verdict on a case."""

    cause: str
    remedy: str
    retries: int = 0
    """How often it is asked again; when it is of all cases, without any verdict in between."""
    of_all: bool = False
    """It is the endpoint's, not the case's."""
    may_pass: bool = False
    overloaded: bool = False
    """Asked less at a time the endpoint may answer."""
    wait_seconds: float = 0.0
    """What the endpoint asks for before the next request; 0 when it does not say."""


class Pace:
    """How many requests at a time, and when the next."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.answered = False
        """Whether the endpoint has shown that it works; until then it is asked one by one."""
        self._pauses = 0  # since the last verdict
        self._paused_at = self._resumed_at = 0.0

    def outcomes(
        self, ask: Callable[[Case], Verdict | Failure], cases: Iterable[Case]
    ) -> Generator[tuple[Case, Verdict | Failure]]:
        """Each case with its verdict or with why there is none; all of them, unless a failure is of all cases."""
        waiting, asked = collections.deque(cases), dict[Future[Verdict | Failure], tuple[Case, float]]()
        retries = collections.Counter[Case]()
        self._pauses, in_a_row, stopped = 0, 0, False
        with ThreadPoolExecutor(self.most) as workers:
            while asked or (waiting and not stopped):
                pause = self._resumed_at - time.monotonic()
                if pause > 0 and not asked:
                    time.sleep(pause)
                    continue
                while pause <= 0 and waiting and not stopped and len(asked) < (self.most if self.answered else 1):
                    case = waiting.popleft()
                    asked[workers.submit(ask, case)] = case, time.monotonic()
                for future in wait(asked, pause if pause > 0 else None, FIRST_COMPLETED).done:
                    (case, asked_at), outcome = asked.pop(future), future.result()
                    if isinstance(outcome, Verdict):
                        self._pauses = in_a_row = 0
                        yield case, outcome
                        continue
                    if outcome.retries and not stopped:
                        self._slow_down(outcome, asked_at)
                        retries[case] += 1
                        if (self._pauses if outcome.of_all else retries[case]) <= outcome.retries:
                            waiting.appendleft(case)
                            continue
                    in_a_row += 1
                    stopped = stopped or outcome.of_all or in_a_row == MAX_FAILURES_IN_A_ROW
                    yield case, outcome

    def _slow_down(self, failure: Failure, asked_at: float) -> None:
        """Requests that were under way together fail together: they count once."""
        now = time.monotonic()
        self._resumed_at = max(self._resumed_at, now + failure.wait_seconds)
        if asked_at < self._paused_at:
            return
        self._pauses, self._paused_at = self._pauses + 1, now
        if failure.overloaded:
            self.most = max(1, self.most // 2)
        if not failure.wait_seconds:
            pause = min(FIRST_PAUSE_SECONDS * 2 ** (self._pauses - 1), MAX_PAUSE_SECONDS)
            self._resumed_at = now + pause * random.uniform(0.75, 1.25)  # noqa: S311 - not a secret
