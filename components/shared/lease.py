"""Whose turn it is to make what several pods could make at once, on any volume.

    <file>: "5f0c2a… 8d1b…/pid:[4026531836]/812 17"

Who is at work has its name in a file, then its process, then a sign that it comes further, renewed as long as it lives.
Who finds the file waits until it is gone, or until what was to be made is there. A holder without a new sign for
`patience_seconds` counts as dead or stuck, and its turn goes to who waits; a dead process of the same machine is seen
at once. File locks would not do: on some network volumes they fail, and on others they succeed for everybody.
"""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from components.shared import progress
from components.shared.storage import FILE_MODE, make_folders

SECONDS_BETWEEN_SIGNS = 5.0
SECONDS_BETWEEN_LOOKS = 0.5
SETTLING_SECONDS = 0.5  # between the writing of two that take over at the same moment; the later one has the turn
MAX_BYTES = 1000


@contextlib.contextmanager
def turn(
    file: Path,
    *,
    taken: str,
    is_done: Callable[[], bool],
    sign: Callable[[], object],
    patience_seconds: float,
    on_loss: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Have the turn within the block, or find on entry that there is nothing left to do.

    Args:
        file: says whose turn it is; made, and removed at the end.
        taken: what is said while another is at work: a sentence.
        is_done: whether it is there; asked again and again while another is at work.
        sign: changes as the work comes further; asked every SECONDS_BETWEEN_SIGNS.
        patience_seconds: without a new sign of the other one.
        on_loss: called from another thread when the turn was taken away: this process was taken for dead.
    """
    holder = _Holder(file)
    if is_done() or not holder.wait(taken, is_done, patience_seconds):
        yield
        return
    ended = threading.Event()
    signs = threading.Thread(target=holder.renew, args=(sign, ended, on_loss), daemon=True)
    signs.start()
    try:
        yield
    finally:
        ended.set()
        signs.join()
        holder.release()


class _Holder:
    """One that wants the turn, or has it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.name = f"{uuid.uuid4().hex} {_place()}/{os.getpid()} "

    def wait(self, taken: str, is_done: Callable[[], bool], patience_seconds: float) -> bool:
        """Wait for the turn; False when the work is done meanwhile."""
        make_folders(self.file.parent)
        seen, since, told = "", time.monotonic(), False
        while not is_done():
            if self._create():
                return True
            found = self._read()
            if found is None:
                continue
            if found != seen:
                seen, since = found, time.monotonic()
            waited = time.monotonic() - since
            if _is_dead(found) or waited > patience_seconds:
                if self._take_over(found):
                    progress.log(f"{taken}, which is gone or has not come further for {waited:.0f} s: going on")
                    return True
                continue
            if not told:
                told = True
                progress.log(f"{taken}: waiting")
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return False

    def renew(self, sign: Callable[[], object], ended: threading.Event, on_loss: Callable[[], None]) -> None:
        """Show signs until the work has ended, or the turn is another's."""
        while not ended.wait(SECONDS_BETWEEN_SIGNS):
            with contextlib.suppress(OSError):  # a volume that is away for a moment
                if self._is_mine():
                    self._write(f"{self.name}{sign()}")
                elif not self._create():
                    on_loss()
                    return

    def release(self) -> None:
        with contextlib.suppress(OSError):  # a file that stays is a dead holder's
            if self._is_mine():
                self.file.unlink()

    def _create(self) -> bool:
        try:
            descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        except FileExistsError:
            return False
        try:
            os.fchmod(descriptor, FILE_MODE)
            os.pwrite(descriptor, self.name.encode(), 0)
        finally:
            os.close(descriptor)
        return True

    def _read(self) -> str | None:
        try:
            with self.file.open("rb") as file:
                return file.read(MAX_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            return None

    def _is_mine(self) -> bool:
        return (self._read() or "").startswith(self.name)

    def _write(self, content: str) -> None:
        """In place: a file that is replaced is found late by others on a network volume."""
        descriptor = os.open(self.file, os.O_WRONLY)
        try:
            os.ftruncate(descriptor, os.pwrite(descriptor, content.encode(), 0))
        finally:
            os.close(descriptor)

    def _take_over(self, found: str) -> bool:
        with contextlib.suppress(FileNotFoundError):
            if self._read() == found:
                self._write(self.name)
                time.sleep(SETTLING_SECONDS)
                return self._is_mine()
        return False


def _place() -> str:
    """Where process numbers mean the same: this start of this machine, this container; unique where nobody tells."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"  # not a path: a name
    except OSError:
        return uuid.uuid4().hex


def _is_dead(content: str) -> bool:
    """Whether the holder is a process of this place that has ended."""
    place, _, number = content.split(" ")[1].rpartition("/") if content.count(" ") == 2 else ("", "", "")
    if place != _place() or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
