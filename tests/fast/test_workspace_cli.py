"""`osft-pipeline workspace`: what is listed, what is pruned, and what no prune ever takes."""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from components.shared.problems import Problems
from pipeline.cli import workspace as workspace_cli
from pipeline.workspace import pruning
from pipeline.workspace.inventory import take_inventory
from pipeline.workspace.pruning import Decision, Policy, decide, remove
from pipeline.workspace.sizes import SECONDS_OF_DAY, age_words, size_words
from tests.fast.conftest import files_below, only_problem_of

NOW = time.time()
BASE, OTHER = "a1" * 20, "b2" * 20
MODEL = f"models/org--name/{BASE}"


def ignore_progress(_: int) -> None:
    """Progress that nobody looks at."""


class Workspace:
    """A workspace of small files that are as old as a test says."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        (self.root / "runs").mkdir(parents=True, exist_ok=True)

    def put(self, path: str, content: Any = "x", days: float = 30) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content), encoding="utf-8")
        os.utime(file, (NOW - days * SECONDS_OF_DAY,) * 2)
        return file

    def base(self, commit: str = BASE, days: float = 30) -> None:
        self.put(f"models/org--name/{commit}/model.safetensors", days=days)
        self.put(f"models/org--name/{commit}/snapshot.json", days=days)

    def model(self, number: int, good: bool | None, days: float = 30, base: str = BASE, files: int = 1) -> str:
        key = f"{number:016x}"
        for shard in range(files):  # the report among them: no order of removal takes it first
            self.put(f"adapted/{key}/model-{shard}.safetensors", days=days)
            if shard == files // 2:
                self.put(f"adapted/{key}/training_report.json", {"plan": {"model": {"commit": base}}}, days)
        self.put(f"runs/{key}/metrics.jsonl", days=days)
        if good is not None:
            self.put(f"runs/{key}/summary.json", {"evaluation": {"gate": {"good_enough": good}}}, days)
            self.put(f"runs/{key}/report.html", days=days)
            self.put(f"runs/{key}/report.md", days=days)
        return key

    def published(self, key: str, name: str, version: str, at: str, days: float = 30) -> None:
        said = {"registry": "https://registry", "name": name, "version": version, "uri": "pvc://", "published_at": at}
        self.put(f"runs/{key}/published.json", said, days)

    def decisions(self, **policy: int) -> tuple[Decision, ...]:
        return decide(take_inventory(self.root, ignore_progress), Policy(**policy), NOW)

    def going(self, **policy: int) -> dict[str, str]:
        return {one.item.path: one.reason for one in self.decisions(**policy) if one.goes}

    def prune(self, **policy: int) -> None:
        going = sorted((one.item for one in self.decisions(**policy) if one.goes), key=pruning.order_of_removal)
        for outcome in remove(self.root, going, ignore_progress):
            assert not outcome.error

    def models(self) -> set[str]:
        """Adapted models that a reader takes for complete."""
        return {
            file.parent.name for file in self.root.glob("adapted/*/training_report.json") if file.parent.name[0] != "."
        }


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


def call(*arguments: str | Path) -> tuple[int, str]:
    """The command in this process: exit code (1 for problems, as the program has it) and what was printed."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(workspace_cli.commands, [str(one) for one in arguments])
    if isinstance(result.exception, Problems):
        return 1, f"{result.output}{result.exception}"
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_newest_good_models_stay_and_the_others_go(workspace):
    newest, second, third = (workspace.model(number, True, days=10 + number) for number in range(3))
    bad, unknown = workspace.model(8, False), workspace.model(9, None)

    assert workspace.going() == {
        f"adapted/{third}": "2 newer good models stay",
        f"adapted/{bad}": "not good",
        f"adapted/{unknown}": "not evaluated",
    }
    assert set(workspace.going(keep=1)) == {f"adapted/{key}" for key in (second, third, bad, unknown)}
    assert set(workspace.going(keep=3)) == {f"adapted/{bad}", f"adapted/{unknown}"}
    assert f"adapted/{newest}" not in workspace.going(keep=1, older_than_days=0)


def test_newest_published_model_of_every_name_stays(workspace):
    for number in range(2):
        workspace.model(number, True, days=10)
    old, new, other = (workspace.model(number, True, days=number) for number in (20, 21, 22))
    workspace.published(old, "guild", "2", "2026-02-01T00:00:00Z")
    workspace.published(new, "guild", "10", "2026-03-01T01:00:00+02:00")
    workspace.published(other, "harbour", "1", "2025-01-01T00:00:00")

    assert set(workspace.going()) == {f"adapted/{old}"}


def test_reports_of_a_removed_model_stay(workspace):
    key = workspace.model(1, False)
    workspace.put(f"runs/{key}/checkpoints/step-00000001/checkpoint.json")
    workspace.put(f"runs/{key}/hf_format/samples_8/model.safetensors")

    workspace.prune()

    assert files_below(workspace.root) == [
        f"runs/{key}/{name}" for name in ("metrics.jsonl", "report.html", "report.md", "summary.json")
    ]


def test_base_models_stay_while_something_may_need_them(workspace):
    workspace.base(BASE)
    workspace.base(OTHER)
    workspace.model(1, True)
    assert set(workspace.going()) == {f"models/org--name/{OTHER}"}

    workspace.put(f"runs/{5:016x}/metrics.jsonl", days=1)
    assert not workspace.going(), "a run is under way, and nobody knows on which model"


def test_every_base_model_stays_when_one_may_be_that_of_a_damaged_model(workspace):
    workspace.base(OTHER)
    workspace.put(f"adapted/{workspace.model(1, True)}/training_report.json", {})

    assert not workspace.going()


def test_a_model_and_all_that_is_in_its_run_go_at_once(workspace):
    workspace.put(f"adapted/{1:016x}/training_report.json", {"plan": {"model": {"commit": BASE}}})
    workspace.put(f"runs/{1:016x}/checkpoints/step-00000001/checkpoint.json")
    workspace.put(f"runs/{1:016x}/.tmp-summary.json-1")

    workspace.prune()

    assert not files_below(workspace.root)


def test_base_model_of_a_model_that_goes_does_too(workspace):
    workspace.base(OTHER)
    workspace.model(1, False, base=OTHER)

    assert len(workspace.going()) == 2


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("adapted/{key}/training_report.json", {}),
        ("runs/{key}/summary.json", {"evaluation": {"gate": {"good_enough": "yes"}}}),
        ("runs/{key}/summary.json", []),
        ("runs/{key}/published.json", {"name": "guild"}),
        ("runs/{key}/published.json", {"registry": "", "name": "", "version": "", "published_at": "lately"}),
    ],
)
def test_a_model_whose_files_cannot_be_read_stays(workspace, path, content):
    key = workspace.model(1, False)
    file = workspace.put(path.format(key=key), content)

    assert not workspace.going(older_than_days=0)
    assert f"{file.name} cannot be read" in call("list", workspace.root)[1]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("adapted/.tmp-0123-4567/model.safetensors", "left behind by a pod that was ended"),
        (f"models/org--name/.partial-{BASE}/model.safetensors", "left behind by a pod that was ended"),
        ("models/.tmp-x/file", "left behind by a pod that was ended"),
        ("runs/.tmp-x", "left behind by a pod that was ended"),
        (".tmp-x/file", "left behind by a pod that was ended"),
        (f"{MODEL}/model.safetensors", "unfinished"),
        (f"adapted/{1:016x}/model.safetensors", "unfinished"),
        (f"runs/{1:016x}/checkpoints/step-00000001/state.safetensors", "given up"),
        (f"runs/{1:016x}/full_state_checkpoints/file", "given up"),
        (f"runs/{1:016x}/.tmp-summary.json-1", "left behind by a pod that was ended"),
        ("pipeline-runs/0f1e2d3c/plan_training.json", "old"),
        ("kfp/20261101-101010/osft/plan", "old"),
        ("kfp/20261101-101010.log", "old"),
    ],
)
def test_what_is_left_lying_goes_when_it_is_old(workspace, path, why):
    file = workspace.put(path, days=6.9)
    assert not workspace.going()
    os.utime(file, (NOW - 7.1 * SECONDS_OF_DAY,) * 2)

    ((gone, reason),) = workspace.going().items()
    assert path.startswith(gone)
    assert reason == why
    workspace.prune()
    assert not files_below(workspace.root)


@pytest.mark.parametrize(
    "path",
    [
        "qa.csv",
        "uploads/model/model.safetensors",
        ".config/settings",
        "models/my-model/model.safetensors",
        "models/my--model/model.safetensors",
        "models/org--name/revisions.json",
        "models/org--name/main/model.safetensors",
        "adapted/production/training_report.json",
        "adapted/notes.txt",
        "runs/notes/checkpoints/state.safetensors",
        f"runs/{1:016x}/notes/text",
        f"runs/{1:016x}/notes.txt",
        "kfp/notes.txt",
        "adapted/.nfs000000000001",
        "models/.snapshot/hourly/file",
        "lost+found/file",
    ],
)
def test_what_no_run_has_made_never_goes(workspace, path):
    workspace.put(path)

    assert not workspace.going(older_than_days=0)
    assert call("list", workspace.root)[0] == 0


def test_one_young_file_of_a_run_keeps_all_of_it(workspace):
    key = workspace.model(1, False)
    workspace.put(f"runs/{key}/checkpoints/step-00000001/checkpoint.json")
    workspace.put(f"runs/{key}/report.html", days=1)

    assert not workspace.going()


def test_removing_from_a_folder_does_not_make_it_young(workspace):
    key = workspace.model(1, False)
    (workspace.root / "adapted" / key / "model-0.safetensors").unlink()

    assert workspace.going()


def test_links_are_neither_followed_nor_targets_touched(workspace, tmp_path):
    outside = Workspace(tmp_path / "outside")
    key = outside.model(1, False)
    outside.base()
    outside.put("young", days=0)
    before = files_below(outside.root)
    (workspace.root / "adapted").mkdir()
    inside = workspace.model(2, False)
    for link in ("models", f"adapted/{key}", f"runs/{key}", f"adapted/{inside}/linked"):
        target = outside.root if "linked" in link else outside.root / link
        (workspace.root / link).symlink_to(target)
        os.utime(workspace.root / link, (0, 0), follow_symlinks=False)

    assert set(workspace.going()) == {f"adapted/{inside}"}
    workspace.prune()

    assert not workspace.models() - {key}
    assert files_below(outside.root) == before


def test_a_folder_that_became_a_link_meanwhile_is_left_alone(workspace, tmp_path):
    outside = Workspace(tmp_path / "outside")
    key = outside.model(1, False)
    workspace.model(1, False)
    going = [one.item for one in workspace.decisions() if one.goes]
    shutil.rmtree(workspace.root / "adapted")
    (workspace.root / "adapted").symlink_to(outside.root / "adapted")

    (outcome,) = remove(workspace.root, going, ignore_progress)

    assert not outcome.removed
    assert outside.models() == {key}


@pytest.mark.parametrize("path", [f"adapted/{1:016x}/training_report.json", f"runs/{1:016x}/summary.json"])
def test_what_is_used_between_looking_and_removing_is_left_alone(workspace, path):
    key = workspace.model(1, False)
    going = [one.item for one in workspace.decisions() if one.goes]
    os.utime(workspace.root / path)

    (outcome,) = remove(workspace.root, going, ignore_progress)

    assert not outcome.removed
    assert not outcome.error
    assert workspace.models() == {key}


def test_rest_of_a_killed_removal_goes_whatever_its_age(workspace):
    workspace.put("adapted/.tmp-removed-0123/model.safetensors", days=0)

    assert workspace.going() == {"adapted/.tmp-removed-0123": "rest of a removal that was ended"}


FORKING = multiprocessing.get_context("fork")  # quick: nothing is imported again


def prune_and_exit(root: Path, barrier: Any, last_change: int = 0) -> None:
    """In a process of its own; killed by SIGKILL before the change to the file system of that number, if any."""
    changes = 0

    def count(event: str, _: tuple[Any, ...]) -> None:
        nonlocal changes
        if event in ("os.rename", "os.remove", "os.rmdir"):
            changes += 1
            if changes == last_change:
                os.kill(os.getpid(), signal.SIGKILL)

    decided = decide(take_inventory(root, ignore_progress), Policy(keep=1), NOW)
    barrier.wait()
    sys.addaudithook(count)
    outcomes = list(remove(root, [one.item for one in decided if one.goes], ignore_progress))
    sys.exit(any(outcome.error for outcome in outcomes))


def test_killed_at_any_moment_no_model_is_half_there(workspace):
    shards = 10
    changes = 3 * (shards + 3)  # of three models: a name, the files and the report, the folder
    newest = workspace.model(0, True, days=10)
    moments = [1, 2, changes, *random.Random(7).sample(range(3, changes), 12)]
    for moment in moments:
        for number in range(1, 4):
            workspace.model(number, False, files=shards)
        process = FORKING.Process(target=prune_and_exit, args=(workspace.root, FORKING.Barrier(1), moment))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        whole = workspace.models()
        assert newest in whole
        for key in whole - {newest}:
            assert len(os.listdir(workspace.root / "adapted" / key)) == shards + 1
        workspace.prune(keep=1)
        assert workspace.models() == {newest}
        assert not list(workspace.root.glob("adapted/.*"))


def test_two_prunes_at_once_both_come_through(workspace):
    newest = workspace.model(0, True)
    for number in range(1, 8):
        workspace.model(number, False, files=60)
    for number in range(1000):
        workspace.put(f"adapted/.tmp-removed-0123/{number}")
    barrier = FORKING.Barrier(2)
    processes = [FORKING.Process(target=prune_and_exit, args=(workspace.root, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0

    assert workspace.models() == {newest}
    assert not list(workspace.root.glob("adapted/.*"))


@settings(max_examples=40, deadline=None)
@given(
    models=st.lists(
        st.tuples(st.sampled_from([True, False, None]), st.integers(0, 40), st.sampled_from(["", "guild", "harbour"])),
        min_size=1,
        max_size=6,
    ),
    keep=st.integers(1, 3),
    older_than=st.sampled_from([0, 7, 20]),
)
def test_after_any_prune_the_newest_good_model_and_its_base_are_there(models, keep, older_than):
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        good: list[tuple[int, str]] = []
        published: dict[str, tuple[int, str]] = {}
        for number, (is_good, days, name) in enumerate(models):
            base = f"{number:040x}"
            workspace.base(base, days=40)
            key = workspace.model(number, is_good, days=days, base=base)
            if is_good:
                good.append((-days, key))
            if name:
                at = f"2026-01-{number + 1:02d}T00:00:00Z"
                workspace.published(key, name, str(number), at, days)
                published[name] = (number, key)

        workspace.prune(keep=keep, older_than_days=older_than)

        left = workspace.models()
        assert {key for _, key in sorted(good)[-keep:]} <= left
        assert {key for _, key in published.values()} <= left
        assert {int(key, 16) for key in left} <= {
            int(p.parent.name, 16) for p in workspace.root.glob("models/*/*/snapshot.json")
        }


def test_nothing_is_removed_without_yes_and_all_that_was_said_with_it(workspace):
    workspace.base()
    newest, bad = workspace.model(1, True), workspace.model(2, False)
    workspace.put("pipeline-runs/one/plan.json")
    before = files_below(workspace.root)

    code, said = call("prune", workspace.root)
    assert code == 0
    assert files_below(workspace.root) == before
    assert bad in said
    assert "not good" in said
    assert "1 records of runs on the cluster" in said
    assert f"stays   {newest}: newest good model" in said
    assert "add --yes" in said

    code, said = call("prune", workspace.root, "--yes")
    assert code == 0
    assert "2 of 2 removed" in said
    assert workspace.models() == {newest}
    assert call("prune", workspace.root) == (0, f"Nothing in {workspace.root} can go.\n")


def test_json_says_what_the_table_says(workspace):
    workspace.base()
    newest, bad = workspace.model(1, True, days=3), workspace.model(2, False)
    workspace.published(newest, "guild", "4", "2026-03-01T00:00:00Z", days=3)

    code, said = call("list", workspace.root, "--json", "--keep", "3")
    found = json.loads(said)
    assert code == 0
    assert (found["schema"], found["workspace"], found["keep"], found["older_than_days"]) == (
        1,
        str(workspace.root),
        3,
        7,
    )
    assert 0 < found["free_bytes"] < found["volume_bytes"]
    items = {item.pop("path"): item for item in found["items"]}
    assert set(items) == {MODEL, *(f"{folder}/{key}" for folder in ("adapted", "runs") for key in (newest, bad))}
    assert items[f"adapted/{newest}"].pop("changed_at")[:10] == time.strftime("%Y-%m-%d", time.gmtime(NOW - 3 * 86400))
    assert items[f"adapted/{newest}"] == {
        "kind": "adapted_model",
        "bytes": sum(file.stat().st_size for file in (workspace.root / "adapted" / newest).iterdir()),
        "state": "good",
        "published": {
            "registry": "https://registry",
            "name": "guild",
            "version": "4",
            "published_at": "2026-03-01T00:00:00+00:00",
        },
        "prunable": False,
        "reason": "newest good model, newest published of its name, modified recently",
    }
    assert found["prunable_bytes"] == items[f"adapted/{bad}"]["bytes"]


def test_table_shows_names_and_states_and_nothing_acts_on_the_terminal(workspace):
    workspace.base()
    key = workspace.model(1, True)
    workspace.published(key, "[red]\x1b[2Jguild", "1", "2026-03-01T00:00:00Z")
    workspace.put("odd\x1b[2J[bold]name")

    code, said = call("list", workspace.root)
    assert code == 0
    assert f"org/name {BASE[:12]}" in said
    assert f"complete; base of {key}" in said
    assert "[red] [2Jguild" in said
    assert "odd [2J[bold]name" in said
    assert "\x1b" not in said
    assert "prune     would remove nothing" in said


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ([], "this folder holds nothing"),
        (["src", "README.md"], "this folder holds README.md, src"),
        (None, "no such folder"),
    ],
)
def test_a_folder_that_is_no_workspace_is_refused(tmp_path, names, what):
    folder = tmp_path / "folder"
    for name in names or ():
        (folder / name).mkdir(parents=True)
    if names is not None:
        folder.mkdir(exist_ok=True)

    found = only_problem_of(take_inventory, folder, ignore_progress)

    assert what in found.what
    assert found.where == str(folder)


def test_without_a_folder_the_claims_mount_path_is_meant():
    code, said = call("list")

    assert code == 1
    assert "where:  /mnt/osft" in said


@contextlib.contextmanager
def any_user_of_group_0() -> Iterator[None]:
    """As a pod has it; whoever runs the tests without root's rights stays who that is."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(12345, 12345, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_what_may_not_be_removed_is_named_all_at_once_and_the_rest_is_done():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to the other user
        Path(folder).chmod(0o755)
        workspace = Workspace(Path(folder))
        one, two, three = (workspace.model(number, False) for number in range(3))
        workspace.put("runs/0123456789abcdef/checkpoints/file")
        for path in workspace.root.rglob("*"):
            path.chmod(0o777)
        closed = [workspace.root / "adapted" / key for key in (one, two)]
        for path in closed:
            path.chmod(0o555)
        unreadable = workspace.root / "runs/0123456789abcdef/checkpoints"
        unreadable.chmod(0o000)
        call("prune", workspace.root)  # imports all that the other user may not read
        with any_user_of_group_0():
            code, said = call("prune", workspace.root, "--yes")
        for path in (*closed, unreadable):
            path.chmod(0o755)

        assert code == 1
        assert "3 problems" in said
        assert "1 of 3 removed" in said
        assert all(f"adapted/{key} could not be removed: Permission denied" in said for key in (one, two))
        assert f"where:  {unreadable}" in said
        assert workspace.models() == {one, two}
        assert not (workspace.root / "adapted" / three).exists()
        assert all((path / "model-0.safetensors").exists() for path in closed)


def test_sizes_and_ages_in_words():
    sizes = {
        0: "0 B",
        1023: "1023 B",
        1024: "1 KiB",
        3_565_158: "3.4 MiB",
        17_500_000_000: "16.3 GiB",
        2**50: "1024.0 TiB",
    }
    ages = {-5: "now", 59: "now", 600: "10 min", 7200: "2 h", 172_800: "2 days"}

    assert {size: size_words(size) for size in sizes} == sizes
    assert {seconds: age_words(seconds) for seconds in ages} == ages
