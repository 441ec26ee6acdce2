"""Progress of several threads in bytes: how many, how fast, how long still; and hashing files in several threads."""

import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from components.shared import progress
from components.shared.storage import sha256_of_file

SECONDS_BETWEEN_LINES = 5.0
HASHING_THREADS = min(8, os.cpu_count() or 1)  # hashlib lets the others run


class Meter:
    """Counts bytes and logs every few seconds:

    snapshot_model | fetching: 4210 of 16340 MB, 98 MB/s, 2 min 03 s left
    """

    def __init__(self, what: str, total_bytes: int) -> None:
        self._what, self._total = what, total_bytes
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._log_lines, daemon=True)
        self._started = time.monotonic()
        self.bytes = 0

    def add(self, count: int) -> None:
        with self._lock:
            self.bytes += count

    def line(self) -> str:
        rate = self.bytes / max(time.monotonic() - self._started, 1e-9)
        left = progress.duration(max(0, self._total - self.bytes) / rate) if rate else "unknown time"
        done = f"{self.bytes / 1e6:.0f} of {self._total / 1e6:.0f} MB"
        return f"{self._what}: {done}, {rate / 1e6:.0f} MB/s, {left} left"

    def _log_lines(self) -> None:
        logged = 0
        while not self._stop.wait(SECONDS_BETWEEN_LINES):
            if self.bytes != logged:
                logged = self.bytes
                progress.log(self.line())

    def __enter__(self) -> "Meter":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()


def hash_files(
    paths: Iterable[Path], what: str, digest: Callable[[Path, Callable[[int], None]], str] = sha256_of_file
) -> list[str]:
    """The digest of each file, in the order of the paths; the largest is begun first."""
    ordered = list(paths)
    sizes = {path: path.stat().st_size for path in ordered}
    with Meter(what, sum(sizes.values())) as meter, ThreadPoolExecutor(HASHING_THREADS) as threads:
        largest_first = sorted(ordered, key=lambda path: -sizes[path])
        digests = {path: threads.submit(digest, path, meter.add) for path in largest_first}
        return [digests[path].result() for path in ordered]
