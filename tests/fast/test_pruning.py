"""What a prune takes from a workspace, what it never takes, and what is there when it is killed."""

import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.workspace.inventory import take_inventory
from pipeline.workspace.pruning import Policy, decide, remove
from pipeline.workspace.sizes import SECONDS_OF_DAY
from tests.fast.conftest import files_below
from tests.tables import table
from tests.workspaces import BASE, NOW, OTHER, Workspace, call, ignore_progress


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


def test_a_rewound_model_stays_by_its_own_merit_and_the_trained_one_goes_when_nothing_uses_it(workspace):
    key = workspace.model(1, True, days=30)
    rewound = f"adapted/{key}-0.75"
    workspace.put(f"runs/{key}/summary.json", {"good": True, "adapted": f"/elsewhere/{rewound}"})
    report = {"plan": {"model": {"commit": BASE}}}
    workspace.put(f"{rewound}/training_report.json", report, days=1)  # a schedule finds it every night
    workspace.put(f"adapted/{key}-0.5/training_report.json", report)  # of an earlier evaluation
    workspace.published(key, "guild", f"{key}-0.75", "2026-02-01T00:00:00Z")

    assert workspace.going() == {f"adapted/{key}": "not good", f"adapted/{key}-0.5": "not evaluated"}
    reasons = {one.item.path: one.reason for one in workspace.decisions()}
    assert reasons[rewound] == "newest good model, newest published of its name, modified recently"
    workspace.prune()
    assert workspace.models() == {f"{key}-0.75"}


def test_what_a_model_that_stays_started_from_stays_and_what_that_one_started_from_goes(workspace):
    keys = [workspace.model(number, True, days=30 - number) for number in range(3)]
    for before, key in itertools.pairwise(keys):
        report = {"plan": {"model": {"commit": BASE}, "lineage": [{"model": before}]}}
        workspace.put(f"adapted/{key}/training_report.json", report)

    assert workspace.going(keep=1) == {f"adapted/{keys[0]}": "a newer good model stays"}
    reasons = {one.item.path: one.reason for one in workspace.decisions(keep=1)}
    assert reasons[f"adapted/{keys[1]}"] == f"start of {keys[2]}"


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


def test_base_model_of_a_model_that_goes_does_too(workspace):
    workspace.base(OTHER)
    workspace.model(1, False, base=OTHER)

    assert len(workspace.going()) == 2


@pytest.mark.parametrize(("path", "content"), table("pruning", "unreadable"))
def test_a_model_whose_files_cannot_be_read_stays(workspace, path, content):
    key = workspace.model(1, False)
    file = workspace.put(path.format(key=key), content)

    assert not workspace.going(older_than_days=0)
    assert f"{file.name} cannot be read" in call("list", workspace.root)[1]


@pytest.mark.parametrize(("path", "why"), table("pruning", "left"))
def test_what_is_left_lying_goes_when_it_is_old(workspace, path, why):
    file = workspace.put(path, days=6.9)
    assert not workspace.going()
    os.utime(file, (NOW - 7.1 * SECONDS_OF_DAY,) * 2)

    ((gone, reason),) = workspace.going().items()
    assert path.startswith(gone)
    assert reason == why
    workspace.prune()
    assert not files_below(workspace.root)


@pytest.mark.parametrize("path", table("pruning", "kept"))
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
