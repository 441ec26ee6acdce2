"""Answers and verdicts as they come, in a file: a later attempt asks only for what is missing.

    {"key": "3f0c...", "value": ["It is crimson.", false]}    one a line, appended

A key names all that the value depends on. A line that was cut when its process died is passed over.
"""

import json
import os
from pathlib import Path
from typing import Any

from components.shared.storage import make_folders, sha256_of_json
from components.shared.workspace import SNAPSHOT_MANIFEST, TRAINING_REPORT

TOUCHED = (SNAPSHOT_MANIFEST, TRAINING_REPORT)  # whenever a run uses the model


class Kept:
    """Values by key; without a file they are kept as long as the process lives."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.values: dict[str, Any] = {}
        if file and file.exists():
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    self.values[entry["key"]] = entry["value"]
                except (ValueError, TypeError, KeyError):  # cut, or two processes wrote at once
                    continue

    def get(self, *parts: Any) -> Any:
        """The value of what these parts name; None without one."""
        return self.values.get(sha256_of_json(parts))

    def put(self, value: Any, *parts: Any) -> None:
        """Keep a value under what these parts name."""
        key = sha256_of_json(parts)
        self.values[key] = value
        if self.file:
            make_folders(self.file.parent)
            # A line break first: the last line may be cut. One write each: another process may append, too.
            line = "\n" + json.dumps({"key": key, "value": value})
            with self.file.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())


def state_of(model: Path) -> str:
    """A digest that changes with the files of a model's folder, without reading them."""
    files = [path for path in sorted(model.iterdir()) if path.is_file() and path.name not in TOUCHED]
    return sha256_of_json([[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files])
