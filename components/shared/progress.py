"""What a step logs while it works: plain lines, each with the step's name, so that they read well in any log.

    train_osft | step 12/90, loss 1.284, 310 tokens/s, 2 min 10 s left

The local runner shows the same lines in colour on a terminal.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

SEPARATOR = " | "
SECONDS_BETWEEN_LINES = 2.0

Item = TypeVar("Item")

_step = "osft"


def name_step(name: str) -> None:
    """Head the lines with another step's name."""
    global _step
    _step = name


def log(text: str) -> None:
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


def track(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Pass `items` on and say every few seconds how many of `total` are through."""
    started = said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said >= SECONDS_BETWEEN_LINES and done < total:
            said = now
            log(f"{what}: {done} of {total}, {duration((now - started) / done * (total - done))} left")


def duration(seconds: float) -> str:
    """'0.8 s', '12 s', '3 min 05 s', '2 h 10 min'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60:02d} min"
