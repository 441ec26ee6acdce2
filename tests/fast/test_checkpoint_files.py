"""Checkpoints on the disk: whole or named and not used, and as often as their cost allows."""

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from components.run.plan import MemoryPlan
from components.shared.storage import read_json
from components.shared.workspace import GIB
from components.training import checkpoints as module
from components.training import memory
from components.training.checkpoints import MANIFEST, Checkpoints
from components.training.memory import checkpoint_seconds, expected_checkpoint_seconds
from tests.tables import table

STATE = "state-00001.safetensors"


def state(step: int) -> dict[str, Tensor]:
    return {"w/value": torch.full((1 << 18,), float(step)), "w/first": torch.arange(10) * step}


def writer(folder: Path, minutes: float | None = 0) -> Checkpoints:
    return Checkpoints(folder, lambda: {"seed": 1}, minutes)


CANNOT_BE_READ, DIFFERS = "cannot be read", "differs from what was written"
DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "truncated": (STATE, lambda old: old[:-100], f"{STATE} has "),
    "flipped bit": (STATE, lambda old: old[:-100] + bytes([old[-100] ^ 1]) + old[-99:], f"{STATE} {DIFFERS}"),
    "cut manifest": (MANIFEST, lambda old: old[: len(old) // 2], f"{MANIFEST} {CANNOT_BE_READ}"),
    "manifest of bytes": (MANIFEST, lambda old: b"\xff\x00", f"{MANIFEST} {CANNOT_BE_READ}"),
    "no files": (MANIFEST, lambda old: old.replace(b'"files"', b'"fimes"'), f"{MANIFEST} {CANNOT_BE_READ}"),
    "no digest": (MANIFEST, lambda old: old.replace(b'"sha256"', b'"sha257"'), f"{MANIFEST} {CANNOT_BE_READ}"),
    "no identity": (MANIFEST, lambda old: old.replace(b'"identity"', b'"identitx"'), f"{MANIFEST} {DIFFERS}"),
    "no history": (MANIFEST, lambda old: old.replace(b'"history"', b'"hisuory"'), f"{MANIFEST} {DIFFERS}"),
    "another step": (MANIFEST, lambda old: old.replace(b'"step": 3', b'"step": 2'), f"{MANIFEST} {DIFFERS}"),
}


@pytest.fixture
def written(tmp_path):
    """One whole checkpoint."""
    checkpoints = writer(tmp_path / "checkpoints")
    checkpoints.write(3, state(3), [])
    checkpoints.finish()
    assert checkpoints.latest() is not None
    return checkpoints


@pytest.mark.parametrize(("file", "change", "said"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_named_and_not_used(written, capsys, file, change, said):
    folder = written.folder / "step-00000003"
    before = (folder / file).read_bytes()
    (folder / file).write_bytes(change(before))
    assert (folder / file).read_bytes() != before

    assert written.latest() is None
    assert f"checkpoint {folder} is damaged and not used: {said}" in capsys.readouterr().out


@pytest.mark.parametrize(("file", "said"), [(STATE, f"{STATE} is missing"), (MANIFEST, f"{MANIFEST} {CANNOT_BE_READ}")])
def test_a_checkpoint_that_lacks_a_file_is_named_and_not_used(written, capsys, file, said):
    (written.folder / "step-00000003" / file).unlink()

    assert written.latest() is None
    assert said in capsys.readouterr().out


def test_a_checkpoint_holds_the_state_of_its_moment(tmp_path):
    checkpoints = writer(tmp_path / "checkpoints")
    changing = state(1)

    checkpoints.write(1, changing, [{"step": 1, "loss": 0.1}])
    changing["w/value"].fill_(9)
    checkpoints.finish()
    found = checkpoints.latest()

    assert found is not None
    assert found.step == 1
    assert found.history == [{"step": 1, "loss": 0.1}]
    assert found.state.keys() == changing.keys()
    assert all(torch.equal(found.state[name], tensor) for name, tensor in state(1).items())


def test_a_large_state_is_spread_over_files(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILE", 100)
    checkpoints = writer(tmp_path / "checkpoints")
    wanted = {f"w{n}/value": torch.full((20,), float(n)) for n in range(5)}

    checkpoints.write(1, wanted, [])
    checkpoints.finish()
    found = checkpoints.latest()

    assert len(read_json(tmp_path / "checkpoints" / "step-00000001" / MANIFEST)["files"]) == 5
    assert found is not None
    assert found.state.keys() == wanted.keys()
    assert all(torch.equal(found.state[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize(("minutes", "due"), [(0.0, True), (10.0, False), (None, False)])
def test_a_checkpoint_is_due_by_time(tmp_path, minutes, due):
    assert writer(tmp_path, minutes).due() == due


@pytest.mark.parametrize(("cost", "writing", "seconds"), table("checkpoint_files", "costs"))
def test_checkpoints_are_as_often_as_their_cost_allows(cost, writing, seconds):
    assert checkpoint_seconds(cost, writing) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("trained_bytes", "on_gpu", "seconds"),
    [
        (2 * memory.COPIED_BYTES_PER_SECOND, True, 200),
        (2 * memory.WRITTEN_BYTES_PER_SECOND, False, 200),
        (1000, True, 60),
        (1000, False, 60),
        (12e9, False, 600),
    ],
)
def test_a_plan_expects_checkpoints_by_the_bytes_of_the_trained_weights(trained_bytes, on_gpu, seconds):
    plan = MemoryPlan(frozen_gib=0.0, trained_gib=trained_bytes / GIB, gradients_gib=0.0, activations_gib=0.0)

    assert expected_checkpoint_seconds(plan, on_gpu) == pytest.approx(seconds)


def test_the_next_checkpoint_is_due_by_what_the_last_one_cost(tmp_path, monkeypatch, capsys):
    for name, value in {"MIN_CHECKPOINT_SECONDS": 0.0, "MAX_CHECKPOINT_SECONDS": 1e9, "COST_SHARE": 1e-5}.items():
        monkeypatch.setattr(memory, name, value)
    busy_seconds = 0.1

    def identity() -> dict[str, Any]:  # is asked for by the thread that writes
        ends = time.thread_time() + busy_seconds
        while time.thread_time() < ends:
            pass
        return {"seed": 1}

    checkpoints = Checkpoints(tmp_path, identity, None)
    checkpoints.write(1, state(1), [])
    checkpoints.finish()

    # On the CPU the training lacks the processor time that the writer takes.
    assert checkpoints.seconds >= busy_seconds / (os.cpu_count() or 1) / memory.COST_SHARE
    assert checkpoints.seconds >= checkpoints.longest_pause_seconds / memory.COST_SHARE
    assert ", the next one in " in capsys.readouterr().out
    assert not checkpoints.due()
    checkpoints.last_written -= checkpoints.seconds
    assert checkpoints.due()


def test_there_is_no_checkpoint_where_none_was_written(tmp_path):
    assert writer(tmp_path / "checkpoints").latest() is None


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """No file may be larger than 64 KiB: it fails as on a full disk, and for root too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def file_in_the_way(folder: Path) -> Iterator[None]:
    (folder / "step-00000002").write_text("mine", encoding="utf-8")
    yield


@pytest.mark.parametrize("failure", [full_disk, file_in_the_way])
def test_a_checkpoint_that_cannot_be_written_is_logged_and_the_previous_one_is_kept(tmp_path, capsys, failure):
    folder = tmp_path / "checkpoints"
    checkpoints = writer(folder)
    checkpoints.write(1, state(1), [])
    checkpoints.finish()

    with failure(folder):
        checkpoints.write(2, state(2), [])
        checkpoints.finish()

    assert "no checkpoint was written, the previous one is kept" in capsys.readouterr().out
    found = checkpoints.latest()
    assert found is not None
    assert found.step == 1
    checkpoints.write(3, state(3), [])
    checkpoints.finish()
    found = checkpoints.latest()
    assert found is not None
    assert found.step == 3
    assert not list(folder.glob(".tmp-*"))
