"""A model in a folder: copied, verified, and another commit when it changes."""

import dataclasses
import os
import shutil
import time
from pathlib import Path

import pytest

from components.shared.storage import read_json
from components.snapshot_model.assembly import ABANDONED_SECONDS
from components.snapshot_model.core import local_folder, take_snapshot
from tests.fast.conftest import files_below, only_problem_of
from tests.hub_server import sha256
from tests.model_files import OTHERS, SMALL, weights, write
from tests.tables import table

FILES = {**SMALL, "model.safetensors": weights(bytes(range(256)) * 40)}


@pytest.fixture
def folder(tmp_path):
    """A model on the disk, with more in it than belongs to it."""
    return write(tmp_path / "my-model", FILES | OTHERS)


@pytest.fixture
def take(folder, tmp_path):
    """Takes the snapshot of that folder."""
    return lambda: take_snapshot(model=str(folder), revision="", workspace=tmp_path / "workspace")


def test_local_folder_is_copied_and_verified(take, folder, tmp_path):
    report = take()
    assert report.path == tmp_path / "workspace" / "models" / "local--my-model" / report.commit
    assert files_below(report.path) == sorted([*FILES, "snapshot.json"])
    assert all((report.path / name).read_bytes() == content for name, content in FILES.items())
    manifest = read_json(report.path / "snapshot.json")
    assert {file["name"]: file["sha256"] for file in manifest["files"]} == {
        name: sha256(content) for name, content in FILES.items()
    }
    assert manifest["source"] == report.source == str(folder)
    assert manifest["commit"] == report.commit
    assert (report.reused, report.bytes, len(report.commit)) == (False, sum(map(len, FILES.values())), 40)


def test_same_content_is_copied_once(take, folder):
    first = take()
    (folder / "README.md").write_text("does not belong to the model")
    written = (first.path / "snapshot.json").stat().st_mtime_ns
    second = take()
    assert second.reused
    assert dataclasses.replace(second, reused_bytes=0, seconds=0) == dataclasses.replace(first, seconds=0)
    assert (first.path / "snapshot.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", weights(b"other")),
        *((name, SMALL[name] + b" ") for name in ("config.json", "tokenizer.json")),
    ],
)
def test_changed_content_is_another_commit_and_the_old_one_stays(take, folder, name, content):
    first = take()
    (folder / name).write_bytes(content)
    second = take()
    assert second.commit != first.commit
    assert not second.reused
    assert (first.path / name).read_bytes() == FILES[name]
    assert (second.path / name).read_bytes() == content


def test_snapshot_does_not_change_with_its_source(take, folder, tmp_path):
    (folder / "model.safetensors").unlink()
    (tmp_path / "blob").write_bytes(FILES["model.safetensors"])
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")  # as in a hub's cache
    report = take()
    (tmp_path / "blob").write_bytes(b"changed")
    assert not (report.path / "model.safetensors").is_symlink()
    assert (report.path / "model.safetensors").read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize(
    "model", ["./my-model", "my-model", "../{parent}/my-model", "{tmp_path}/my-model", "~/my-model"]
)
def test_relative_and_absolute_paths_name_the_same_folder(folder, tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    model = model.format(tmp_path=tmp_path, parent=tmp_path.name)
    report = take_snapshot(model=model, revision="main", workspace=tmp_path / "workspace")
    assert report.source == str(folder)


def test_path_is_told_from_a_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_folder("ibm-granite/granite-3.2-8b-instruct") is None
    assert local_folder("s3://bucket/folder/model") is None
    assert local_folder("/mnt/model") == Path("/mnt/model")
    assert local_folder("./org/name") == tmp_path / "org" / "name"
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert local_folder("org/name") == tmp_path / "org" / "name"


@pytest.mark.parametrize(
    "model", ["granite-3.2-8b", "org/name/extra", "org name/model", "https://hub/org/name", "org/", ""]
)
def test_name_that_is_neither_folder_nor_hub_name_is_refused(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    found = only_problem_of(take_snapshot, model=model, revision="main", workspace=tmp_path / "workspace")
    assert found.what == f"{model!r} is neither a folder nor org/name"
    assert found.where == "parameter model"
    assert "/mnt/" in found.remedy


def test_model_that_does_not_fit_is_refused_before_anything_is_copied(take, folder, tmp_path, monkeypatch):
    needed = 2 * sum(map(len, FILES.values()))  # the base model and the adapted one
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    found = only_problem_of(take_snapshot, model=str(folder), revision="main", workspace=tmp_path / "workspace")
    assert "too small" in found.what
    assert "GiB free" in found.what
    assert found.where == f"workspace {tmp_path / 'workspace'}"
    assert "enlarge" in found.remedy
    assert files_below(tmp_path / "workspace") == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    assert not take().reused


@pytest.mark.parametrize("below", ["file", "file/workspace"])
def test_workspace_that_cannot_be_written_is_named(folder, tmp_path, below):
    (tmp_path / "file").write_text("mine")
    found = only_problem_of(take_snapshot, model=str(folder), revision="main", workspace=tmp_path / below)
    assert "not writable" in found.what
    assert found.where == f"workspace {tmp_path / below}"
    assert "chmod" in found.remedy
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["n" * 250, "ö" * 125])
def test_folder_with_the_longest_name_is_taken(tmp_path, name):
    source = write(tmp_path / name, FILES)
    report = take_snapshot(model=str(source), revision="", workspace=tmp_path / "workspace")
    assert report.path.parent.name == f"local--{name[:60]}"
    assert files_below(report.path) == sorted([*FILES, "snapshot.json"])


def test_abandoned_downloads_are_cleared_away_and_those_at_work_are_not(take, tmp_path):
    old, new = (tmp_path / "workspace" / "models" / "org--name" / f".partial-{digit * 40}" for digit in "ab")
    former = old.with_name(".tmp-cccc-1234")
    for partial in (old, new, former):
        partial.mkdir(parents=True)
        (partial / "model.safetensors").write_bytes(b"half")
    week_ago = time.time() - ABANDONED_SECONDS - 10
    for partial in (old, former):
        for path in (partial / "model.safetensors", partial):
            os.utime(path, (week_ago, week_ago))
    os.utime(new, (week_ago, week_ago))
    take()
    assert [path.exists() for path in (old, former, new)] == [False, False, True]


@pytest.mark.parametrize(("text", "card"), table("snapshot_folder", "cards"))
def test_card_of_a_folder_is_read_from_its_readme(take, folder, text, card):
    (folder / "README.md").write_bytes(text.encode("latin-1"))
    assert take().card == card


@pytest.mark.parametrize("kind", ["link to a folder", "link to nothing", "pipe", "file"])
def test_what_is_in_a_partial_folders_place_is_removed_and_not_followed(take, tmp_path, kind):
    path = take().path
    partial, other = path.parent / f".partial-{path.name}", tmp_path / "other"
    shutil.rmtree(path)
    write(other, {"private": b"content"})
    if kind.startswith("link"):
        partial.symlink_to(other if kind == "link to a folder" else tmp_path / "nothing")
    else:
        os.mkfifo(partial) if kind == "pipe" else partial.write_bytes(b"x")

    assert take().path == path
    assert not path.is_symlink()
    assert files_below(other) == ["private"]
    assert not partial.exists()


def test_pipe_and_nonsense_in_a_manifests_place_are_no_snapshot(take, monkeypatch):
    path = take().path
    for make in (os.mkfifo, lambda place: place.write_text("[" * 100_000, encoding="utf-8")):
        (path / "snapshot.json").unlink()
        make(path / "snapshot.json")
        assert take().reused
