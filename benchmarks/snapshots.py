"""How fast are snapshots verified and downloaded, and what do faults cost? No GPU.

Verifying: the same files, in memory (page cache), by `osft-pipeline verify`'s code and by two `sha256sum` at once, in
turns. Downloading: from the tests' hub on this machine, by `snapshot_model` and by huggingface_hub's own
`snapshot_download`, in turns; the former verifies every file and has it on the disk when it ends, the latter does not.
Faults: the bytes of files that the hub sent, as a share of the model's, for each fault of the tests that passes.

python -m benchmarks.snapshots WORK_FOLDER
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import common
from components.snapshot_model.core import take_snapshot
from components.snapshot_model.meter import HASHING_THREADS
from components.snapshot_model.verification import verify
from tests.fast.test_snapshot_faults import PASSING, SPLIT
from tests.hub_client import Client
from tests.hub_server import HubServer, Repository
from tests.model_files import SMALL, shards

FILES, FILE_BYTES = 4, 1 << 30
DOWNLOAD_FILE_BYTES = 1 << 28
ROUNDS = 3
KILLS = 20

# Without the start of Python, in a process of its own: a hub's address is read when its client is imported.
OURS = """
from pathlib import Path
from components.snapshot_model.core import take_snapshot
def download(): take_snapshot(model="org/model", revision="main", workspace=Path(sys.argv[1]))
"""
THEIRS = """
from huggingface_hub import snapshot_download
def download(): snapshot_download("org/model", revision="main", local_dir=sys.argv[1])
"""
TIMED = "import sys, time\n{}\nstarted = time.monotonic()\ndownload()\nprint('seconds', time.monotonic() - started)"
SERVER = """
import sys, time
from benchmarks.snapshots import model_files
from tests.hub_server import HubServer, Repository
with HubServer({"org/model": Repository(files=model_files(int(sys.argv[1])))}) as hub:
    print(hub.url, flush=True)
    sys.stdin.read()
"""


def main() -> None:
    work = Path(sys.argv[1])
    result = {"verifying": verifying(work), "downloading": downloading(work), "faults": faults(work)}
    result["huggingface_hub"] = version("huggingface_hub")
    common.write_result("snapshots", result, arguments=" WORK_FOLDER")


def model_files(file_bytes: int) -> dict[str, bytes]:
    return {**SMALL, **shards(os.urandom(1 << 20) * (file_bytes >> 20), FILES)}


def verifying(work: Path) -> dict[str, Any]:
    source = work / "model"
    source.mkdir(parents=True)
    for name, content in model_files(FILE_BYTES).items():
        (source / name).write_bytes(content)
    snapshot = take_snapshot(model=str(source), revision="", workspace=work / "workspace").path
    shutil.rmtree(source)
    names = [path.name for path in snapshot.glob("*.safetensors")]
    ours, theirs = [], []
    command = ["xargs", "-P2", "-n1", "sha256sum"]

    def sha256sum() -> None:
        subprocess.run(command, cwd=snapshot, input="\n".join(names), text=True, stdout=subprocess.DEVNULL, check=True)  # noqa: S603

    for _ in range(ROUNDS):
        ours.append(seconds(lambda: verify(snapshot, repair=False)))
        theirs.append(seconds(sha256sum))
    size = FILES * FILE_BYTES
    shutil.rmtree(work / "workspace")
    return {
        "bytes": size,
        "threads": HASHING_THREADS,
        "bytes_per_second": size / min(ours),
        "sha256sum_bytes_per_second": size / min(theirs),
        "ratio": min(theirs) / min(ours),
        "seconds": ours,
        "sha256sum_seconds": theirs,
    }


def downloading(work: Path) -> dict[str, Any]:
    ours, theirs = [], []
    command = [sys.executable, "-c", SERVER, str(DOWNLOAD_FILE_BYTES)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
    assert server.stdin is not None
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    for _ in range(ROUNDS):
        for program, found in ((OURS, ours), (THEIRS, theirs)):
            environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(work / "home"), "NO_PROXY": "127.0.0.1"}
            done = subprocess.run(  # noqa: S603
                [sys.executable, "-c", TIMED.format(program), str(work / "download")],
                env=environment, capture_output=True, text=True, check=True,
            )  # fmt: skip
            found.append(float(done.stdout.split()[-1]))
            shutil.rmtree(work / "download")
    server.stdin.close()
    server.wait()
    size = FILES * DOWNLOAD_FILE_BYTES
    return {
        "bytes": size,
        "seconds": ours,
        "snapshot_download_seconds": theirs,
        "ratio": statistics.median(ours) / statistics.median(theirs),
    }


def faults(work: Path) -> dict[str, float]:
    """Bytes sent as a share of the model's."""
    repositories = {f"org/{name}": repository for name, (repository, _) in PASSING.items()}
    repositories["org/killed"] = Repository(files=SPLIT, bytes_per_second=8e5)
    shares = {}
    with HubServer(repositories) as hub, Client(hub.url, work / "home") as client:
        for _ in range(KILLS):
            client.be_killed("org/killed", work / "faults", after_seconds=0.2)
        for name, repository in repositories.items():
            client.snapshot(name, work / "faults")
            size = sum(map(len, repository.files.values()))
            shares[name.removeprefix("org/")] = hub.sent_bytes[name] / size
    shares[f"{KILLS}-kills"] = shares.pop("killed")
    return shares


def seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


if __name__ == "__main__":
    main()
