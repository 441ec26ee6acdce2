"""What a step says while it works: plain lines, each with the step's name, so that they read well in any log.

    train_osft | step 12/90, loss 1.284, 310 tokens/s, 2 min 10 s left

The local runner shows the same lines in colour on a terminal.
"""

import contextlib
import errno
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec, TypeVar

from components.shared import records
from components.shared.problems import Problems, problem

SEPARATOR = " | "
SECONDS_BETWEEN_LINES = 2.0
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

Parameters = ParamSpec("Parameters")
Report = TypeVar("Report")
Item = TypeVar("Item")

_step = "osft"


def say(text: str) -> None:
    """Print `text`, every line of it headed by the running step's name."""
    for line in text.splitlines():
        # The line with its end in one piece: several threads may say something.
        print(f"{_step}{SEPARATOR}{printable(line)}\n", end="", flush=True)


def printable(text: str) -> str:
    """Text without the control characters that would act on a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def printable_lines(text: str) -> str:
    """The same, with its line breaks."""
    return "\n".join(map(printable, text.splitlines()))


def run_step(
    name: str, core: Callable[Parameters, Report], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Report:
    """Run a step's core: name it in its lines, time it, record it, and end the process with code 1 on an error.

    A user's mistake (`Problems`) is printed without a traceback, anything else with one.
    """
    global _step
    _step = name
    started = time.monotonic()
    say("started")
    _record(records.begin, name)
    try:
        with _full_disk_is_a_problem():
            report = core(*args, **kwargs)
    except Problems as error:
        say(f"error: {error}")
        _record(records.end, records.FAILED, str(error))
        raise SystemExit(1) from None
    except Exception as error:
        say(f"error: this is a fault of the program, not of your input\n{traceback.format_exc()}")
        _record(records.end, records.FAILED, f"a fault of the program: {type(error).__name__}, see its log")
        raise SystemExit(1) from None
    _record(records.end, records.FINISHED)
    say(f"finished in {duration(time.monotonic() - started)}")
    sys.stdout.flush()
    return report


@contextlib.contextmanager
def _full_disk_is_a_problem() -> Iterator[None]:
    """No room to write is nothing that the program could mend, whichever step finds it and wherever it writes."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise problem(
            f"nothing more can be written: {error.strerror}",
            where=str(error.filename or "the volume or the pod's own disk"),
            rule="a step needs room for what it makes; what was there stays, nothing is half published",
            remedy="enlarge the volume, or see what can go: osft-pipeline workspace prune; then run again",
        ) from None


def _record(write: Callable[..., None], *args: str) -> None:
    """Record what happens; a workspace that cannot be written stops the step where it needs it, and not here."""
    try:
        write(*args)
    except OSError as error:
        say(f"this is not recorded for the message at the run's end: {error.strerror}")


def track(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Pass `items` on and say every few seconds how many of `total` are through."""
    started = said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said >= SECONDS_BETWEEN_LINES and done < total:
            said = now
            say(f"{what}: {done} of {total}, {duration((now - started) / done * (total - done))} left")


def duration(seconds: float) -> str:
    """'0.8 s', '12 s', '3 min 05 s', '2 h 10 min'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60:02d} min"
