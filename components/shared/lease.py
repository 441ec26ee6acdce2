"""A lease on work that several pods could do at once, on any volume.

    <file>: "5f0c2a… 8d1b…/pid:[4026531836]/812 17"

The file has the holder's name, its process, and a heartbeat, renewed as long as it lives. Whoever finds the file waits
until it is gone, or until the work is done. A holder without a new heartbeat for `timeout_seconds` counts as dead or
stuck, and the lease goes to one that waits; a dead process of the same machine is noticed at once. File locks would not
do: on some network volumes they fail, and on others they succeed for everybody.
"""

import contextlib
import errno
import os
import shlex
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from components.shared import progress
from components.shared.problems import Problems, problem
from components.shared.storage import FILE_MODE, make_folders, open_file

SECONDS_BETWEEN_HEARTBEATS = 5.0
SECONDS_BETWEEN_CHECKS = 0.5
SETTLING_SECONDS = 0.5  # two may take over at the same moment; the lease is that of the later one
MAX_BYTES = 1000


@contextlib.contextmanager
def hold_lease(
    file: Path,
    *,
    busy_message: str,
    is_done: Callable[[], bool],
    heartbeat: Callable[[], object],
    timeout_seconds: float,
    on_lost: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Hold the lease within the block, or find on entry that the work is done.

    Args:
        file: names the holder; made, and removed at the end.
        busy_message: logged while another holds the lease: a sentence.
        is_done: whether the work is done; asked again and again while another is at work.
        heartbeat: changes as the work makes progress; asked every SECONDS_BETWEEN_HEARTBEATS.
        timeout_seconds: without a new heartbeat, until the holder counts as dead.
        on_lost: called from another thread when another has taken the lease: this process was taken for dead.

    Raises:
        Problems: when something else is in the file's place.
    """
    holder = _Holder(file)
    if is_done() or not holder.wait(busy_message, is_done, timeout_seconds):
        yield
        return
    ended = threading.Event()
    heartbeats = threading.Thread(target=holder.renew, args=(heartbeat, ended, on_lost), daemon=True)
    heartbeats.start()
    try:
        yield
    finally:
        ended.set()
        heartbeats.join()
        holder.release()


class _Holder:
    """A process that waits for the lease, or holds it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.name = f"{uuid.uuid4().hex} {_place()}/{os.getpid()} "

    def wait(self, busy_message: str, is_done: Callable[[], bool], timeout_seconds: float) -> bool:
        """Wait for the lease; False when the work is done meanwhile."""
        make_folders(self.file.parent)
        seen, since, is_logged = "", time.monotonic(), False
        while not is_done():
            if self._create():
                return True
            found = self._read()
            if found is None:
                continue
            if found != seen:
                seen, since = found, time.monotonic()
            waited = time.monotonic() - since
            if _is_dead(found) or waited > timeout_seconds:
                if self._take_over(found):
                    progress.log(f"{busy_message}, which is gone or made no progress for {waited:.0f} s: taking over")
                    return True
                continue
            if not is_logged:
                is_logged = True
                progress.log(f"{busy_message}: waiting")
            time.sleep(SECONDS_BETWEEN_CHECKS)
        return False

    def renew(self, heartbeat: Callable[[], object], ended: threading.Event, on_lost: Callable[[], None]) -> None:
        """Write heartbeats until the work has ended, or the lease is another's."""
        while not ended.wait(SECONDS_BETWEEN_HEARTBEATS):
            with contextlib.suppress(OSError, Problems):  # a volume that is away for a moment
                if self._is_mine():
                    self._write(f"{self.name}{heartbeat()}")
                elif not self._create():
                    on_lost()
                    return

    def release(self) -> None:
        with contextlib.suppress(OSError, Problems):  # a file that stays counts as a dead holder's
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
            with open_file(self.file, os.O_NOFOLLOW) as file:
                return file.read(MAX_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno not in (errno.ELOOP, errno.EISDIR):
                raise
            raise problem(
                "a link, a folder or a pipe is in a lease's place",
                where=str(self.file),
                rule="a lease is a file that names the process at work",
                remedy=f"remove it: rm -r {shlex.quote(str(self.file))}",
            ) from None

    def _is_mine(self) -> bool:
        return (self._read() or "").startswith(self.name)

    def _write(self, content: str) -> None:
        """In place: a file that is replaced is found late by others on a network volume."""
        descriptor = os.open(self.file, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
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
    """Where process numbers mean the same: this start of this machine, this container; unique where this is unknown."""
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
