"""`osft-pipeline workspace`: what is listed, and what is said before and after a prune."""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.workspace.inventory import take_inventory
from pipeline.workspace.sizes import age_words, size_words
from tests.fast.conftest import files_below, only_problem_of
from tests.tables import table
from tests.workspaces import BASE, MODEL, NOW, Workspace, call, ignore_progress


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


@pytest.mark.parametrize(("names", "what"), table("workspace_cli", "no_workspaces"))
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
