"""The lease on work that several pods could do at once."""

import contextlib
import json
import os
import time
from pathlib import Path

import pytest

from components.shared import lease
from tests.fast.conftest import only_problem_of


def hold(file: Path, timeout_seconds: float) -> contextlib.AbstractContextManager[None]:
    return lease.hold_lease(
        file, busy_message="busy", is_done=lambda: False, heartbeat=lambda: 0, timeout_seconds=timeout_seconds
    )


def test_holder_of_another_machine_is_waited_for_until_its_heartbeat_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "SECONDS_BETWEEN_CHECKS", 0.02)
    file = tmp_path / "lease"
    file.write_text(f"other elsewhere/{os.getpid()} 17", encoding="utf-8")
    started = time.monotonic()

    with hold(file, 0.3):
        assert time.monotonic() - started >= 0.3
        assert not file.read_text(encoding="utf-8").startswith("other")

    assert not file.exists()


@pytest.mark.parametrize("content", ["", "half a na", "a b c d e", json.dumps({"an": "older form"}), "x y/z 1"])
def test_file_of_any_content_holds_nobody_up_for_longer(tmp_path, content):
    file = tmp_path / "lease"
    file.write_text(content, encoding="utf-8")

    with hold(file, 0.1):
        pass

    assert not file.exists()


@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "folder"])
def test_what_is_no_lease_is_one_error_and_not_touched(tmp_path, kind):
    file, other = tmp_path / "lease", tmp_path / "other"
    other.write_text("content", encoding="utf-8")
    make = {"pipe": lambda: os.mkfifo(file), "folder": file.mkdir}
    make.get(kind, lambda: file.symlink_to(other if kind == "link" else tmp_path / "nothing"))()

    found = only_problem_of(hold(file, 0.1).__enter__)

    assert str(file) in found.remedy
    assert other.read_text(encoding="utf-8") == "content"
