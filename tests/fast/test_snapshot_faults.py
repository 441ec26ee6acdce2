"""Whatever goes wrong on the way: a good snapshot, or one clear error with nothing half-published."""

import hashlib
import random
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from components.shared.storage import read_json
from tests.fast.conftest import files_below
from tests.hub_client import Client
from tests.hub_server import ALWAYS, COMMIT, Fault, HubServer, Repository
from tests.model_files import SMALL, shards, weights
from tests.tables import table

# Long enough that what is on the way when a connection breaks does not count, and odd.
FILLING = random.Random(0).randbytes(3_000_001)
WEIGHTS = weights(FILLING)
DAMAGED = WEIGHTS[:1_600_000] + b"\0" + WEIGHTS[1_600_001:]
NAME = "model.safetensors"
FILES = {**SMALL, NAME: WEIGHTS}
SPLIT = {**SMALL, **shards(FILLING)}
SHARDS = [name for name in SPLIT if name.endswith(".safetensors")]
LATER = "f" * 40
TENTHS = [tenth / 10 for tenth in range(1, 10)]

CONTENTS = {"damaged": DAMAGED, "too short": WEIGHTS[:-1], "too long": WEIGHTS + b"x"}


def spoilt(rows: list[dict[str, Any]], times: int = 1) -> Repository:
    """A repository whose answers go wrong as a table says."""
    made = [{"times": times} | row | {"content": CONTENTS.get(row.get("content", ""))} for row in rows]
    named = [row | {"file": NAME} if row.get("file") == "weights" else row for row in made]
    return Repository(files=FILES, faults=tuple(Fault(**row) for row in named))


# What goes wrong, and how often the model's bytes may be sent in all.
PASSING = {name: (spoilt(faults), most) for name, (most, faults) in table("snapshot_faults", "passing").items()} | {
    **{f"cut-at-{share}": (spoilt([{"file": "weights", "cut_at": share}]), 1.1) for share in TENTHS},
    "cut-at-every-tenth": (spoilt([{"file": "weights", "cut_at": share} for share in TENTHS]), 1.1),
    "mirror-without-sizes-and-digests": (Repository(files=FILES, is_plain_mirror=True), 1.1),
    "everything-at-once": (Repository(files=SPLIT, faults=tuple(
        Fault(file=name, **fault) for name in SHARDS for fault in ({"cut_at": 0.3}, {"status": 503}, {"cut_at": 0.7})
    )), 1.1),
}  # fmt: skip
# What stays wrong, what is said of it, and what is advised.
LASTING = {
    name: (spoilt(faults, ALWAYS), what, remedy)
    for name, (what, remedy, faults) in table("snapshot_faults", "lasting").items()
} | {
    "gated": (Repository(files=FILES, gated=True), "access to the model is restricted", "/org/lasting-gated with your"),
    "missing-shard": (
        Repository(files={name: content for name, content in SPLIT.items() if "00002-of" not in name}),
        "weights are missing: 'model-00002-of-00002.safetensors'", "fetch the model again",
    ),
}  # fmt: skip
USERS_MISTAKES = ("not-a-hub", "gated", "token-without-the-right", "missing-shard")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    repositories = {f"org/passing-{name}": repository for name, (repository, _) in PASSING.items()}
    repositories |= {f"org/lasting-{name}": repository for name, (repository, *_) in LASTING.items()}
    repositories["org/moving"] = Repository(
        files=SPLIT, bytes_per_second=20e6, later=Repository(files=FILES, commit=LATER)
    )
    repositories["org/full"] = Repository(files=SPLIT, bytes_per_second=3e6)
    repositories["org/killed"] = Repository(files=SPLIT, bytes_per_second=8e5)
    repositories |= {
        f"org/{name}": Repository(files=SPLIT, bytes_per_second=10e6)
        for name in ("two-120", "two-0", "clock", "told", "large")
    }
    repositories["org/left"] = Repository(files=SPLIT, bytes_per_second=1e6)
    repositories["org/stopped"] = Repository(files=SPLIT, faults=(Fault(file=SHARDS[0], stalls_at=0.5),))
    with HubServer(repositories) as server:
        yield server


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory):
    with Client(hub.url, tmp_path_factory.mktemp("home")) as started:
        yield started


def assert_good(workspace: Path, report: dict, files: dict[str, bytes]) -> None:
    """The snapshot holds these files, says so, and nothing else of this model is there."""
    folder = Path(report["path"])
    assert {path.name for path in folder.iterdir()} == {*files, "snapshot.json"}
    for file in read_json(folder / "snapshot.json")["files"]:
        content = (folder / file["name"]).read_bytes()
        assert content == files[file["name"]]
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def published(workspace: Path) -> list[str]:
    return [name for name in files_below(workspace) if "/." not in name]


def size(files: dict[str, bytes]) -> int:
    return sum(map(len, files.values()))


@pytest.mark.parametrize("name", PASSING)
def test_fault_that_passes_ends_in_a_good_snapshot(hub, client, tmp_path, name):
    repository, most = PASSING[name]
    assert_good(tmp_path, client.snapshot(f"org/passing-{name}", tmp_path), repository.files)
    assert hub.sent_bytes[f"org/passing-{name}"] <= most * size(repository.files)


@pytest.mark.parametrize("name", LASTING)
def test_fault_that_stays_is_one_clear_error_with_nothing_published_and_the_next_attempt_goes_on(
    hub, client, tmp_path, name
):
    repository, what, remedy = LASTING[name]
    model = f"org/lasting-{name}"
    found = client.problem(model, tmp_path)
    assert what in found.what
    assert remedy in found.remedy
    assert found.may_pass == (name not in USERS_MISTAKES)
    assert model in found.where
    assert hub.url in found.where
    assert published(tmp_path) == []
    if not repository.faults:
        return
    hub.clear_faults(model)
    assert_good(tmp_path, client.snapshot(model, tmp_path), FILES)
    if name in ("stall", "down"):  # after half of the file
        assert hub.sent_bytes[model] <= 1.1 * size(FILES)


def test_branch_that_moves_between_two_requests_does_not_mix_two_states(hub, client, tmp_path):
    first = client.snapshot("org/moving", tmp_path)
    assert first["commit"] == COMMIT
    assert_good(tmp_path, first, SPLIT)
    second = client.snapshot("org/moving", tmp_path)
    assert second["commit"] == LATER
    assert_good(tmp_path, second, FILES)


def test_redirect_to_another_host_is_followed_without_the_token(tmp_path):
    token = "hf_" + "r" * 20
    with (
        HubServer({"org/model": Repository(files=FILES, faults=(Fault(file=NAME, cut_at=0.5),))}) as files,
        HubServer({"org/model": Repository(files=FILES, token=token, file_host=files.url)}) as hub,
        Client(hub.url, tmp_path / "home", token=token) as client,
    ):
        assert_good(tmp_path, client.snapshot("org/model", tmp_path / "workspace"), FILES)
        assert {request.authorization for request in hub.asked_about("org/model")} == {f"Bearer {token}"}
        assert {request.authorization for request in files.requests} == {""}
        assert files.sent_bytes["org/model"] <= 1.1 * size(FILES)


def test_twenty_kills_cost_no_bytes_and_never_show_half_a_snapshot(hub, tmp_path):
    choice = random.Random(1)
    folder = tmp_path / "models" / "org--killed" / COMMIT
    at_once = "from components.shared import lease; lease.SETTLING_SECONDS = 0"  # each finds the one killed before
    with Client(hub.url, tmp_path / "home", changes=at_once) as client:
        kills = 0
        while kills < 20 or not hub.sent_bytes["org/killed"]:  # a busy machine needs longer for the first byte
            client.be_killed("org/killed", tmp_path, after_seconds=choice.uniform(0.01, 0.3) * (1 + kills // 20))
            assert not folder.exists() or (folder / "snapshot.json").exists()
            kills += 1
        sent = hub.sent_bytes["org/killed"]
        assert 0 < sent < size(SPLIT)
        hub.clear_faults("org/killed")
        report = client.snapshot("org/killed", tmp_path)
    assert_good(tmp_path, report, SPLIT)
    assert hub.sent_bytes["org/killed"] <= 1.1 * size(SPLIT)
    assert report["reused_bytes"] >= sent - 0.1 * size(SPLIT)


@pytest.mark.parametrize(("patience", "most"), [("120", 1.1), ("0", 2.1)])
def test_two_pods_at_once_end_with_one_good_snapshot(hub, tmp_path, patience, most):
    model = f"org/two-{patience}"
    changes = f"from components.snapshot_model import assembly; assembly.LEASE_TIMEOUT_SECONDS = {patience}"
    with (
        Client(hub.url, tmp_path / "home1", changes=changes) as one,
        Client(hub.url, tmp_path / "home2", changes=changes) as other,
    ):
        for pod in (one, other):
            pod.ask(model, tmp_path / "workspace")
        reports = [pod.report() for pod in (one, other)]
    assert reports[0]["path"] == reports[1]["path"]
    assert_good(tmp_path / "workspace", reports[0], SPLIT)
    assert hub.sent_bytes[model] <= most * size(SPLIT)


def test_pod_goes_on_with_what_a_killed_one_left_while_it_waited(hub, client, tmp_path):
    with Client(hub.url, tmp_path / "home") as killed:
        killed.ask("org/left", tmp_path / "workspace")
        wait_until(lambda: hub.sent_bytes["org/left"] > 1e6)
        client.ask("org/left", tmp_path / "workspace")
        wait_until(lambda: hub.sent_bytes["org/left"] > 4e6)
        killed.kill()
        assert_good(tmp_path / "workspace", client.report(), SPLIT)
    assert any("made by another process" in line for line in client.said)
    assert hub.sent_bytes["org/left"] <= 1.1 * size(SPLIT)


def test_pod_goes_past_one_that_holds_the_lease_and_does_nothing(hub, tmp_path):
    impatient = "from components.snapshot_model import assembly; assembly.LEASE_TIMEOUT_SECONDS = 0.5"
    with Client(hub.url, tmp_path / "home1") as stuck, Client(hub.url, tmp_path / "home2", changes=impatient) as other:
        stuck.ask("org/stopped", tmp_path / "workspace")
        wait_until(lambda: hub.sent_bytes["org/stopped"] > 1e6)
        stuck.stop()
        other.ask("org/stopped", tmp_path / "workspace")
        assert_good(tmp_path / "workspace", other.report(), SPLIT)
        stuck.go_on()
        assert_good(tmp_path / "workspace", stuck.report(), SPLIT)


def test_disk_that_fills_up_is_one_clear_error_and_the_rest_comes_when_there_is_room(hub, client, tmp_path):
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))"
    with Client(hub.url, tmp_path / "home", changes=limited) as small:
        found = small.problem("org/full", tmp_path / "workspace")
    assert (found.what, found.may_pass) == ("the volume is full", True)
    assert "make room" in found.remedy
    assert published(tmp_path / "workspace") == []
    assert_good(tmp_path / "workspace", client.snapshot("org/full", tmp_path / "workspace"), SPLIT)
    assert hub.sent_bytes["org/full"] <= 1.1 * size(SPLIT)


def test_volume_without_room_for_a_single_byte_is_one_clear_error(hub, tmp_path):
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))"
    with Client(hub.url, tmp_path / "home", changes=full) as small:
        found = small.problem("org/passing-stall", tmp_path)
    assert found.what == "the volume is full"
    assert published(tmp_path) == []


def test_read_only_volume_is_one_clear_error_and_a_complete_snapshot_on_it_is_used(hub, client, tmp_path):
    workspace = tmp_path / "workspace"
    client.snapshot("org/passing-cut-at-0.1", workspace)
    before = files_below(workspace)
    mount = f"mount --bind {workspace} {workspace} && mount -o remount,ro,bind {workspace}"
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    with Client(hub.url, tmp_path / "home", prefix=prefix) as client:
        assert client.snapshot("org/passing-cut-at-0.1", workspace)["reused"]
        found = client.problem("org/left", workspace)
    assert "the workspace is not writable" in found.what
    assert files_below(workspace) == before


def test_clock_that_jumps_changes_nothing(hub, tmp_path):
    jumps = "import itertools, time\nreal, jump = time.time, itertools.cycle((0, 1e7, -1e8, 3600, -60))\n"
    with Client(hub.url, tmp_path / "home", changes=f"{jumps}time.time = lambda: real() + next(jump)") as client:
        for _ in range(5):
            client.be_killed("org/clock", tmp_path, after_seconds=0.1)
        assert_good(tmp_path, client.snapshot("org/clock", tmp_path), SPLIT)


def test_progress_says_bytes_and_rate_and_time_left(hub, tmp_path):
    often = "from components.snapshot_model import meter; meter.SECONDS_BETWEEN_LINES = 0.1"
    with Client(hub.url, tmp_path / "home", changes=often) as client:
        client.snapshot("org/told", tmp_path)
    lines = [line for line in client.said if re.search(r"fetching: [1-5] of 6 MB, \d+ MB/s, [\d.]+ s left$", line)]
    assert len(lines) > 1


def test_model_that_does_not_fit_is_refused_before_its_first_byte(hub, tmp_path):
    full = f"import shutil; shutil.disk_usage = lambda _: shutil._ntuple_diskusage(1, 1, {2 * size(SPLIT) - 1})"
    with Client(hub.url, tmp_path / "home", changes=full) as client:
        found = client.problem("org/large", tmp_path)
    assert "the workspace is too small" in found.what
    assert hub.sent_bytes["org/large"] == 0
    assert files_below(tmp_path / "models") == []


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
