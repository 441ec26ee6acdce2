"""Several make the same snapshot at the same moment, and none waits for another."""

import os
import random
import threading
import time
from pathlib import Path

from components.shared import lease
from components.shared.workspace import snapshot_folder
from components.snapshot_model import assembly, model_source
from components.snapshot_model.assembly import assemble_snapshot
from components.snapshot_model.model_source import FileInfo, Source, Unreachable
from tests.hub_server import sha256
from tests.model_files import SMALL, shards

COMMIT = "0" * 40
PODS, ROUNDS = 3, 40
CONTENTS = {**SMALL, **shards(random.Random(1).randbytes(300_001))}
FILES = {name: FileInfo(size=len(content), digest=sha256(content)) for name, content in CONTENTS.items()}


def unsteady_source(choice: random.Random) -> Source:
    """Pieces of any length, pauses, and connections that break."""

    def read(name, offset, end):
        while offset < len(CONTENTS[name]):
            length = choice.choice((1000, 20_000, 65_536))
            if choice.random() < 0.02:
                time.sleep(choice.random() * 0.003)
            if choice.random() < 0.01:
                raise Unreachable("cut")
            yield CONTENTS[name][offset : offset + length]
            offset += length

    return Source(
        name="org/model", revision="", commit=COMMIT, where="here", if_damaged="", files=FILES, card={}, read=read
    )


def test_all_end_with_the_same_good_snapshot_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(assembly, "LEASE_TIMEOUT_SECONDS", -1)
    monkeypatch.setattr(lease, "SETTLING_SECONDS", 0)
    monkeypatch.setattr(model_source, "FIRST_WAIT_SECONDS", 0.001)
    for number in range(ROUNDS):
        workspace = tmp_path / str(number)
        final = snapshot_folder(workspace, "org/model", COMMIT)
        faults: list[object] = []

        def pod(seed: int, workspace: Path = workspace, final: Path = final, faults: list[object] = faults) -> None:
            choice = random.Random(seed)
            time.sleep(choice.random() * 0.02)
            try:
                assemble_snapshot(workspace, final, unsteady_source(choice))
                faults += [name for name, content in CONTENTS.items() if (final / name).read_bytes() != content]
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=pod, args=(number * PODS + seed,)) for seed in range(PODS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []
        assert {path.name for path in final.iterdir()} == {*CONTENTS, "snapshot.json"}
        assert [path.name for path in final.parent.iterdir()] == [COMMIT]


def test_files_are_on_the_disk_before_the_snapshot_appears_under_its_name(tmp_path, monkeypatch):
    """What a node that fails just then would leave: every file's last write, then its fsync, then the rename."""
    events: list[tuple[str, str]] = []
    write, flush, rename = os.pwrite, os.fsync, os.rename

    def name_of(descriptor: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name

    def observed_write(descriptor, *arguments):
        events.append(("write", name_of(descriptor)))
        return write(descriptor, *arguments)

    def observed_flush(descriptor):
        events.append(("flush", name_of(descriptor)))
        flush(descriptor)

    def observed_rename(source, target):
        events.append(("rename", Path(source).name))
        rename(source, target)

    monkeypatch.setattr(os, "pwrite", observed_write)
    monkeypatch.setattr(os, "fsync", observed_flush)
    monkeypatch.setattr(os, "rename", observed_rename)
    assemble_snapshot(tmp_path, snapshot_folder(tmp_path, "org/model", COMMIT), unsteady_source(random.Random(0)))
    appears = events.index(("rename", f".partial-{COMMIT}"))
    assert ("flush", f".partial-{COMMIT}") in events[:appears]
    for name in CONTENTS:
        of_file = [event for event, of in events[:appears] if of == name]
        assert "write" in of_file
        assert of_file[-1] == "flush"
    assert events[appears + 1] == ("flush", "org--model")
