import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.snapshot_model.core import take_snapshot
from components.snapshot_model.verification import verify
from tests.fast.conftest import files_below, only_problem_of, problems_of
from tests.hub_client import Client
from tests.hub_server import HubServer, Repository, sha256
from tests.model_files import SMALL, weights, write

FILES = {**SMALL, "model.safetensors": weights(bytes(range(256)) * 9000)}


def flip(path: Path) -> None:
    """Another content of the same length, and the same time of change."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def remove(path: Path) -> None:
    path.unlink()


DAMAGES = {flip: "has another content", cut: "bytes instead of", remove: "is missing"}


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "my-model", FILES)


@pytest.fixture
def snapshot(source, tmp_path):
    return take_snapshot(model=str(source), revision="", workspace=tmp_path / "workspace").path


def test_good_snapshot_is_good_and_stays_as_it_is(snapshot):
    before = {path: path.stat() for path in snapshot.iterdir()}
    (found,) = verify(snapshot, repair=False)
    assert (found.path, found.files, found.bytes) == (snapshot, len(FILES), sum(map(len, FILES.values())))
    assert found.repaired == ()
    assert {path: path.stat().st_mtime_ns for path in snapshot.iterdir()} == {
        path: stat.st_mtime_ns for path, stat in before.items()
    }


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_broken_file_is_found_and_repaired_alone(snapshot, damage, name):
    inodes = {path.name: path.stat().st_ino for path in snapshot.iterdir()}
    damage(snapshot / name)
    broken = only_problem_of(verify, snapshot, repair=False)
    assert broken.what.startswith(f"{name} ")
    assert DAMAGES[damage] in broken.what
    assert broken.where == str(snapshot)
    assert "--repair" in broken.remedy
    (found,) = verify(snapshot, repair=True)
    assert found.repaired == (name,)
    assert (snapshot / name).read_bytes() == FILES[name]
    assert {path.name for path in snapshot.iterdir() if path.stat().st_ino != inodes[path.name]} <= {
        name,
        "snapshot.json",
    }
    assert [path.name for path in snapshot.parent.iterdir()] == [snapshot.name]


def test_all_that_is_broken_is_named_at_once(snapshot, tmp_path, source):
    (source / "config.json").write_bytes(FILES["config.json"].replace(b"llama", b"granite"))
    other = take_snapshot(model=str(source), revision="", workspace=tmp_path / "workspace").path
    flip(snapshot / "model.safetensors")
    remove(snapshot / "tokenizer.json")
    cut(other / "model.safetensors")
    found = problems_of(verify, tmp_path / "workspace", repair=False)
    assert sorted((problem.what.split()[0], problem.where) for problem in found) == sorted(
        [("model.safetensors", str(snapshot)), ("tokenizer.json", str(snapshot)), ("model.safetensors", str(other))]
    )


def test_file_whose_source_is_gone_is_named_with_the_reason(snapshot, source):
    flip(snapshot / "model.safetensors")
    source.rename(source.with_name("elsewhere"))
    broken, reason = problems_of(verify, snapshot, repair=True)
    assert broken.what == "model.safetensors has another content"
    assert reason.what == "no such folder"


def test_source_in_another_state_repairs_nothing(snapshot, source):
    flip(snapshot / "model.safetensors")
    (source / "tokenizer.json").write_bytes(FILES["tokenizer.json"] + b" ")
    before = (snapshot / "model.safetensors").read_bytes()
    broken, reason = problems_of(verify, snapshot, repair=True)
    assert broken.what == "model.safetensors has another content"
    assert "another state" in reason.what
    assert (snapshot / "model.safetensors").read_bytes() == before


def test_damaged_manifest_is_named(snapshot):
    (snapshot / "snapshot.json").write_text("{")
    assert only_problem_of(verify, snapshot, repair=True).what == "snapshot.json is damaged"


@pytest.mark.parametrize("below", [".", "absent", "config.json"])
def test_place_without_a_snapshot_is_named(source, below):
    found = only_problem_of(verify, source / below, repair=False)
    assert found.what == "there is no snapshot"
    assert found.where == str(source / below)


def test_command_names_broken_files_and_repairs_them_from_the_hub(tmp_path):
    def command(*arguments):
        program = [sys.executable, "-m", "pipeline", "verify", *map(str, arguments)]
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1"}
        return subprocess.run(program, capture_output=True, text=True, env=environment, check=False)

    with HubServer({"org/model": Repository(files=FILES)}) as hub:
        with Client(hub.url, tmp_path / "home") as client:
            path = Path(client.snapshot("org/model", tmp_path)["path"])
        flip(path / "tokenizer.json")
        before, files = len(hub.requests), files_below(tmp_path)
        weights_sent = hub.sent_files("org/model").count("model.safetensors")
        broken = command(path)
        assert (broken.returncode, len(hub.requests)) == (1, before)
        assert "tokenizer.json has another content" in broken.stderr
        assert "Traceback" not in broken.stderr
        repaired = command(tmp_path, "--repair")
        assert repaired.returncode == 0, repaired.stderr
        assert f"repaired: {path / 'tokenizer.json'}" in repaired.stdout
        assert hub.sent_files("org/model").count("model.safetensors") == weights_sent
    good = command(path)
    assert (good.returncode, good.stderr) == (0, "")
    assert f"good: {path}" in good.stdout
    assert files_below(tmp_path) == files


def test_what_does_not_belong_to_a_snapshot_is_named_and_removed(snapshot, tmp_path):
    outside = write(tmp_path / "outside", {"file": b"stays"})
    (snapshot / "chat_template.jinja").write_text("another template")
    (snapshot / "pytorch_model.bin").write_bytes(b"pickle")
    write(snapshot / "folder" / "below", {"file": b"x"})
    (snapshot / "to-a-folder").symlink_to(outside)
    (snapshot / "to-a-file").symlink_to(outside / "file")
    (snapshot / "to-nothing").symlink_to(outside / "absent")
    names = ["chat_template.jinja", "folder", "pytorch_model.bin", "to-a-file", "to-a-folder", "to-nothing"]
    found = problems_of(verify, snapshot, repair=False)
    assert [problem.what for problem in found] == [f"{name!r} does not belong to the snapshot" for name in names]
    assert {problem.where for problem in found} == {str(snapshot)}
    (repaired,) = verify(snapshot, repair=True)
    assert (repaired.removed, repaired.repaired) == (tuple(names), ())
    assert files_below(snapshot) == sorted([*FILES, "snapshot.json"])
    assert files_below(outside) == ["file"]
    assert verify(snapshot, repair=False)[0].removed == ()


def test_file_that_is_a_link_is_named_and_replaced_by_the_file(snapshot, source):
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(source / "model.safetensors")
    assert only_problem_of(verify, snapshot, repair=False).what == "model.safetensors is a link"
    assert verify(snapshot, repair=True)[0].repaired == ("model.safetensors",)
    assert not (snapshot / "model.safetensors").is_symlink()
    assert (source / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_folder_in_a_files_place_is_replaced_by_the_file(snapshot):
    (snapshot / "tokenizer.json").unlink()
    write(snapshot / "tokenizer.json", {"x": b""})
    assert verify(snapshot, repair=True)[0].repaired == ("tokenizer.json",)
    assert (snapshot / "tokenizer.json").read_bytes() == FILES["tokenizer.json"]


@pytest.mark.parametrize("change", [("config.json", "extra.bin"), (sha256(FILES["tokenizer.json"]), "0" * 64)])
def test_manifest_that_says_something_else_than_the_source_is_written_anew(snapshot, change):
    manifest = snapshot / "snapshot.json"
    before = manifest.read_text()
    manifest.write_text(before.replace(*change, 1))
    verify(snapshot, repair=True)
    assert manifest.read_text() == before
    assert {name: (snapshot / name).read_bytes() for name in FILES} == FILES
