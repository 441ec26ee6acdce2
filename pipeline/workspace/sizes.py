"""How large something on the volume is and how long unchanged; both in words, too."""

import contextlib
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from stat import S_ISDIR

Progress = Callable[[int], None]
"""Is given the number of entries just read, many times: sizing takes minutes on a slow volume."""
SECONDS_OF_DAY = 24 * 3600


@dataclasses.dataclass(frozen=True)
class Size:
    """Of a file, or of everything below a folder."""

    bytes: int
    changed: float
    unreadable: tuple[str, ...]


def measure(path: Path, progress: Progress) -> Size:
    """Size and newest modification. A folder's own time counts only when it is empty: removing from it sets it, too.
    Raises FileNotFoundError when it is gone."""
    status = path.lstat()
    if not S_ISDIR(status.st_mode):
        return Size(status.st_size, status.st_mtime, ())
    total, newest = 0, 0.0
    unreadable: list[str] = []
    waiting = [(str(path), status.st_mtime)]
    while waiting:
        folder, own_time = waiting.pop()
        try:
            with os.scandir(folder) as scan:
                entries = list(scan)
            progress(len(entries))
            if not entries:
                newest = max(newest, own_time)
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    if S_ISDIR(found.st_mode):
                        waiting.append((entry.path, found.st_mtime))
                    else:
                        total += found.st_size
                        newest = max(newest, found.st_mtime)
        except FileNotFoundError:
            continue
        except OSError:
            unreadable.append(folder)
    return Size(total, newest or status.st_mtime, tuple(unreadable))


def size_words(size: int) -> str:
    """'0 B', '12 KiB', '3.4 MiB', '16.3 GiB'."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit in ("B", "KiB") else f"{value:.1f} {unit}"


def age_words(seconds: float) -> str:
    """'now', '12 min', '5 h', '3 days'."""
    if seconds < 60:
        return "now"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * SECONDS_OF_DAY:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / SECONDS_OF_DAY:.0f} days"
