import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.shared.storage import read_json
from components.snapshot_model.assembly import ABANDONED_SECONDS
from components.snapshot_model.core import local_folder, take_snapshot
from tests.fast.conftest import files_below, only_problem_of
from tests.hub_client import Client
from tests.hub_server import ALWAYS, COMMIT, Fault, HubServer, Repository, git_blob_id, sha256
from tests.model_files import SMALL, shards, weights, write

WEIGHTS = weights(bytes(range(256)) * 40)
FILES = {**SMALL, "model.safetensors": WEIGHTS}
SPLIT = {**SMALL, **shards()}
REPOSITORY = {
    **FILES,
    "pytorch_model.bin": b"pickle" * 100,
    "modeling_custom.py": b"import os",
    "README.md": b"# A model",
    ".gitattributes": b"*.safetensors filter=lfs",
    "onnx/model.onnx": b"onnx",
}
CARD = {
    "license": "apache-2.0",
    "base_model": ["org/base"],
    "tags": ["language", *(f"tag {n}" for n in range(100))],
    "license_name": "x" * 1000,
    "widget": [{"text": "not kept"}],
}
TOKEN = "hf_" + "t" * 20


def published(workspace: Path) -> list[str]:
    """All that stands under a final name: what is half there has a name with a dot in front."""
    return [name for name in files_below(workspace) if "/." not in name]


def spoilt(file: str, content: bytes) -> Fault:
    return Fault(file=file, content=content, times=ALWAYS)


@pytest.fixture(scope="module")
def hub():
    with HubServer(
        {
            "org/whole": Repository(files=REPOSITORY, revisions=("main", "v1.0", "refs/pr/1")),
            "org/reused": Repository(files=REPOSITORY),
            "org/pinned": Repository(files=REPOSITORY),
            "org/private": Repository(files=REPOSITORY, token=TOKEN),
            "org/damaged-config": Repository(
                files=REPOSITORY, faults=(spoilt("config.json", FILES["config.json"].replace(b"llama", b"lIama")),)
            ),
            "org/no-template": Repository(files={**REPOSITORY, "tokenizer_config.json": b"{}"}),
            "org/experts": Repository(files={**REPOSITORY, "config.json": b'{"model_type": "x", "num_experts": 8}'}),
            "org/consolidated": Repository(
                files={
                    **{name: content for name, content in REPOSITORY.items() if name != "model.safetensors"},
                    **SPLIT,
                    "consolidated.safetensors": WEIGHTS,
                }
            ),
            "org/cut": Repository(files={**REPOSITORY, "model.safetensors": WEIGHTS[:-1]}),
            "org/card": Repository(files=REPOSITORY, card=CARD),
            "org/repaired": Repository(files=REPOSITORY),
            "org/pickles": Repository(
                files={name: content for name, content in REPOSITORY.items() if name != "model.safetensors"}
            ),
        }
    ) as server:
        yield server


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory):
    started = Client(hub.url, tmp_path_factory.mktemp("home"))
    yield started
    started.close()


def test_download_is_verified_and_holds_the_model_and_nothing_else(hub, client, tmp_path):
    report = client.snapshot("org/whole", tmp_path)
    folder = tmp_path / "models" / "org--whole" / COMMIT
    assert report["path"] == str(folder)
    assert report["commit"] == COMMIT
    assert report["reused"] is False
    inside = [f"models/org--whole/{COMMIT}/{name}" for name in [*FILES, "snapshot.json"]]
    assert files_below(tmp_path) == sorted([*inside, "models/org--whole/revisions.json"])
    for name, content in FILES.items():
        assert (folder / name).read_bytes() == content
    manifest = read_json(folder / "snapshot.json")
    assert {file["name"]: (file["size"], file["sha256"]) for file in manifest["files"]} == {
        name: (len(content), sha256(content)) for name, content in FILES.items()
    }
    assert manifest["bytes"] == report["bytes"] == sum(map(len, FILES.values()))
    assert (manifest["source"], manifest["revision"], manifest["commit"]) == ("org/whole", "main", COMMIT)
    assert hub.sent_files("org/whole") == sorted(FILES)


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/1", COMMIT])
def test_tag_reference_and_commit_name_the_same_snapshot(client, tmp_path, revision):
    assert client.snapshot("org/whole", tmp_path, revision)["commit"] == COMMIT


def test_second_call_downloads_nothing(hub, client, tmp_path):
    first = client.snapshot("org/reused", tmp_path)
    second = client.snapshot("org/reused", tmp_path)
    assert (first["reused"], second["reused"]) == (False, True)
    assert (first["reused_bytes"], second["reused_bytes"]) == (0, first["bytes"])
    assert first["path"] == second["path"]
    assert hub.sent_files("org/reused") == sorted(FILES)


def test_complete_commit_needs_no_hub(hub, client, tmp_path):
    client.snapshot("org/pinned", tmp_path)
    before = len(hub.requests)
    assert client.snapshot("org/pinned", tmp_path, COMMIT)["reused"] is True
    assert len(hub.requests) == before > 0


def test_only_the_weights_that_the_index_names_are_downloaded(hub, client, tmp_path):
    report = client.snapshot("org/consolidated", tmp_path)
    assert {path.name for path in Path(report["path"]).iterdir()} == {*SPLIT, "snapshot.json"}
    assert hub.sent_files("org/consolidated") == sorted(SPLIT)


def test_licence_and_base_model_are_in_the_snapshot_and_in_the_report_and_bounded(client, tmp_path):
    report = client.snapshot("org/card", tmp_path)
    card = report["card"]
    assert (card["license"], card["base_model"], card["tags"][0]) == ("apache-2.0", ["org/base"], "language")
    assert (len(card["tags"]), len(card["license_name"])) == (30, 200)
    assert "widget" not in card
    assert read_json(Path(report["path"]) / "snapshot.json")["card"] == card


@pytest.mark.parametrize(
    ("name", "content"), [("model.safetensors", None), ("model.safetensors", b"cut"), ("config.json", b"")]
)
@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_file_that_a_snapshot_lost_is_fetched_again_alone(hub, client, tmp_path, name, content, revision):
    path = Path(client.snapshot("org/repaired", tmp_path)["path"])
    (path / name).unlink()
    if content is not None:
        (path / name).write_bytes(content)
    before = hub.sent_bytes["org/repaired"]
    report = client.snapshot("org/repaired", tmp_path, revision)
    assert (path / name).read_bytes() == FILES[name]
    assert hub.sent_bytes["org/repaired"] - before == len(FILES[name]) == report["bytes"] - report["reused_bytes"]
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []


FALSE_MANIFESTS = {
    "empty": lambda text: "",
    "half": lambda text: "{",
    "list": lambda text: "[]",
    "no-file": lambda text: '{"files": []}',
    "size-inf": lambda text: text.replace('"size": ', '"size": 1e999, "was": ', 1),
    "size-negative": lambda text: text.replace('"size": ', '"size": -', 1),
    "size-text": lambda text: text.replace('"size": ', '"size": "1", "was": ', 1),
    "size-float": lambda text: text.replace('"size": ', '"size": 1.5, "was": ', 1),
    "digest-short": lambda text: text.replace('"sha256": "', '"sha256": "x', 1),
    "digest-number": lambda text: text.replace('"sha256": ', '"sha256": 7, "was": ', 1),
    "parent": lambda text: text.replace("config.json", "..", 1),
    "no-name": lambda text: text.replace("config.json", "", 1),
    "hidden": lambda text: text.replace("config.json", ".config.json", 1),
    "other-folder": lambda text: text.replace("config.json", "a/config.json", 1),
    "itself": lambda text: text.replace("config.json", "snapshot.json", 1),
    "name-number": lambda text: text.replace('"config.json"', "7", 1),
    "other-commit": lambda text: text.replace(COMMIT, "f" * 40),
    "no-commit": lambda text: text.replace("commit", "comit"),
    "card": lambda text: text.replace('"card": {}', '"card": 7'),
    "source": lambda text: text.replace('"org/repaired"', "7"),
    "nested": lambda text: "[" * 200_000,
    "file-that-nobody-has": lambda text: text.replace("config.json", "extra.safetensors", 1),
}


@pytest.mark.parametrize("change", FALSE_MANIFESTS)
def test_manifest_that_says_what_cannot_be_is_made_anew(hub, client, tmp_path, change):
    path = Path(client.snapshot("org/repaired", tmp_path)["path"])
    before, manifest = hub.sent_bytes["org/repaired"], (path / "snapshot.json").read_text()
    changed = FALSE_MANIFESTS[change](manifest)
    assert changed != manifest
    (path / "snapshot.json").write_text(changed)
    (path / "something").mkdir()
    for revision in (COMMIT, "main"):
        assert client.snapshot("org/repaired", tmp_path, revision)["commit"] == COMMIT
    assert {**read_json(path / "snapshot.json"), "revision": "main"} == json.loads(manifest)
    assert {entry.name for entry in path.iterdir()} == {*FILES, "snapshot.json"}
    assert hub.sent_bytes["org/repaired"] == before


@pytest.mark.parametrize("entry", ["folder", "link"])
def test_what_stands_in_the_manifests_place_is_removed(client, tmp_path, entry):
    path = Path(client.snapshot("org/repaired", tmp_path)["path"])
    (path / "snapshot.json").rename(tmp_path / "elsewhere.json")
    if entry == "folder":
        (path / "snapshot.json").mkdir()
    else:
        (path / "snapshot.json").symlink_to(tmp_path / "elsewhere.json")
    before = (tmp_path / "elsewhere.json").read_bytes()
    assert client.snapshot("org/repaired", tmp_path)["reused"]
    assert (path / "snapshot.json").is_file()
    assert not (path / "snapshot.json").is_symlink()
    assert (tmp_path / "elsewhere.json").read_bytes() == before


def test_file_whose_digest_in_the_manifest_is_false_does_not_block_the_snapshot(client, tmp_path):
    path = Path(client.snapshot("org/repaired", tmp_path)["path"])
    manifest = read_json(path / "snapshot.json")
    for file in manifest["files"]:
        file["sha256"] = "0" * 64
        (path / "snapshot.json").write_text(json.dumps(manifest))
        (path / file["name"]).write_bytes(b"cut")
        client.snapshot("org/repaired", tmp_path)
        assert (path / file["name"]).read_bytes() == FILES[file["name"]]
        manifest = read_json(path / "snapshot.json")
        assert "0" * 64 not in str(manifest)


@pytest.mark.parametrize("place", ["model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("is_there", ["in the snapshot", "in what has arrived"])
def test_nothing_is_read_or_written_through_a_link(client, tmp_path, place, is_there):
    workspace, outside = tmp_path / "workspace", tmp_path / "outside"
    path = Path(client.snapshot("org/repaired", workspace)["path"])
    outside.write_bytes(FILES[place][:-1] + b" ")
    if is_there == "in what has arrived":
        path = path.rename(path.with_name(f".partial-{COMMIT}"))
        (path / "snapshot.json").unlink()
    (path / place).unlink()
    (path / place).symlink_to(outside)
    final = Path(client.snapshot("org/repaired", workspace)["path"])
    assert not (final / place).is_symlink()
    assert (final / place).read_bytes() == FILES[place]
    assert outside.read_bytes() == FILES[place][:-1] + b" "


def described(change: Callable[[dict[str, Any]], None] = lambda described: None) -> Repository:
    """A repository whose description was changed."""
    siblings = [
        {
            "rfilename": name,
            "size": len(content),
            "blobId": git_blob_id(content),
            "lfs": {"sha256": sha256(content), "size": len(content), "pointerSize": 134}
            if content is WEIGHTS
            else None,
        }
        for name, content in FILES.items()
    ]
    description = {"id": "org/hostile", "sha": COMMIT, "siblings": siblings}
    change(description)
    commit = description["sha"] if isinstance(description["sha"], str) else COMMIT
    fault = Fault(content=json.dumps(description).encode(), times=ALWAYS)
    return Repository(files=FILES, commit=commit, faults=(fault,))


@pytest.mark.parametrize(
    "change",
    [
        *(
            {"sha": sha}
            for sha in ("../../../escaped", "/escaped", ".", "..", "main", COMMIT[1:], COMMIT.upper(), 7, {"a": 1}, [])
        ),
        *({"size": size} for size in ("many", -5, 1.5, True, [7])),
        {"blobId": 7},
        {"rfilename": 7},
        {"rfilename": ["config.json"]},
    ],
)
def test_answer_that_no_hub_gives_is_refused_and_writes_nothing(hub, client, tmp_path, change):
    def set_it(description: dict[str, Any]) -> None:
        (description if "sha" in change else description["siblings"][0]).update(change)

    hub.repositories["org/hostile"] = described(set_it)
    hub.sent_bytes["org/hostile"] = 0
    assert client.problem("org/hostile", tmp_path / "workspace").what == "the answer is not that of a hub"
    assert list(tmp_path.rglob("*")) == []
    assert not Path("/escaped").exists()


@pytest.mark.parametrize("card", [[1, 2], "text", 7, {"license": {"a": 1}}])
def test_card_of_another_form_is_none(hub, client, tmp_path, card):
    hub.repositories["org/hostile"] = described(lambda description: description.update(cardData=card))
    hub.sent_bytes["org/hostile"] = 0
    assert client.snapshot("org/hostile", tmp_path)["card"] == {}


def test_digest_in_capitals_counts(hub, client, tmp_path):
    def capitals(description: dict[str, Any]) -> None:
        for sibling in description["siblings"]:
            if sibling["lfs"]:
                sibling["lfs"]["sha256"] = sibling["lfs"]["sha256"].upper()

    repository = described(capitals)
    damage = spoilt("model.safetensors", WEIGHTS[:-1] + b"x")
    hub.repositories["org/hostile"] = dataclasses.replace(repository, faults=(*repository.faults, damage))
    hub.sent_bytes["org/hostile"] = 0
    assert "model.safetensors arrived damaged" in client.problem("org/hostile", tmp_path).what


def test_weights_that_arrive_as_the_hub_has_them_and_are_cut_are_refused_and_leave_nothing(client, tmp_path):
    found = client.problem("org/cut", tmp_path)
    assert found.what.startswith("model.safetensors is cut or no safetensors file")
    assert found.where.startswith("org/cut at ")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("name", ["n" * 250, "ö" * 125])
def test_folder_with_the_longest_name_is_taken(tmp_path, name):
    source = write(tmp_path / name, FILES)
    report = take_snapshot(model=str(source), revision="", workspace=tmp_path / "workspace")
    assert report.path.parent.name == f"local--{name[:60]}"
    assert files_below(report.path) == sorted([*FILES, "snapshot.json"])


@pytest.mark.parametrize("model", ["/mnt/" + "n" * 300, "n" * 5000, "org/" + "n" * 300])
def test_name_that_no_file_can_have_is_one_clear_error(client, tmp_path, model):
    assert client.problem(model, tmp_path).what


def test_hub_that_is_down_leaves_what_the_branch_was_and_says_so(tmp_path):
    with HubServer({"org/model": Repository(files=REPOSITORY)}) as hub, Client(hub.url, tmp_path / "home") as client:
        first = client.snapshot("org/model", tmp_path)
        pinned = client.snapshot("org/model", tmp_path, COMMIT)
    assert first["is_current"]
    assert pinned["is_current"]
    for offline in (False, True):
        with Client(hub.url, tmp_path / "home", offline=offline) as client:
            later = client.snapshot("org/model", tmp_path)
            assert (later["path"], later["is_current"]) == (first["path"], False)
            assert "WARNING" in (said := "".join(client.said))
            assert f"commit {COMMIT}" in said
            assert client.snapshot("org/model", tmp_path, COMMIT)["is_current"]
            assert client.problem("org/model", tmp_path, "v1.0").where.startswith("org/model at revision v1.0")
            assert client.problem("org/other", tmp_path).where.startswith("org/other")


def test_refusal_of_a_hub_that_answers_is_not_taken_for_a_hub_that_is_down(tmp_path):
    with HubServer({"org/model": Repository(files=REPOSITORY)}) as hub, Client(hub.url, tmp_path / "home") as client:
        client.snapshot("org/model", tmp_path)
        hub.repositories["org/model"] = dataclasses.replace(hub.repositories["org/model"], token=TOKEN)
        assert "it is private" in client.problem("org/model", tmp_path).what


@pytest.mark.parametrize("address", ["mirror.example", "ftp://mirror.example", "/mirror"])
def test_endpoint_that_is_no_address_is_named_at_once(tmp_path, address):
    with Client(address, tmp_path / "home") as client:
        assert client.problem("org/model", tmp_path).what == "HF_ENDPOINT is no address of a hub"


def test_empty_endpoint_means_the_hub_itself(tmp_path):
    with Client("", tmp_path / "home", offline=True) as client:
        found = client.problem("org/model", tmp_path)
        assert "hub https://" in found.where
        assert not found.may_pass  # the user has switched the hub off


def test_password_of_an_endpoint_is_never_shown(tmp_path):
    with HubServer({"org/model": Repository(files=REPOSITORY)}) as hub:
        address = hub.url.replace("://", "://user:pass-word@")
        with Client(address, tmp_path / "home") as client:
            client.snapshot("org/model", tmp_path)
            found = client.problem("org/absent", tmp_path)
            assert "pass-word" not in "".join([*client.said, str(found)])
    assert not any(b"pass-word" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_broken_snapshot_without_a_hub_is_an_error_that_names_the_file(tmp_path):
    with HubServer({"org/model": Repository(files=REPOSITORY)}) as hub, Client(hub.url, tmp_path / "home") as client:
        path = Path(client.snapshot("org/model", tmp_path)["path"])
    (path / "tokenizer.json").unlink()
    with Client(hub.url, tmp_path / "home", offline=True) as client:
        assert client.problem("org/model", tmp_path).what.startswith("tokenizer.json of the snapshot is missing; ")


def test_abandoned_downloads_are_cleared_away_and_those_at_work_are_not(folder, tmp_path):
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
    take_snapshot(model=str(folder), revision="", workspace=tmp_path / "workspace")
    assert [path.exists() for path in (old, former, new)] == [False, False, True]


@pytest.mark.parametrize(
    ("text", "card"),
    [
        ("---\nlicense: mit\nbase_model: org/base\n---\n# Title", {"license": "mit", "base_model": "org/base"}),
        ("---\r\nlicense: mit\r\n---\r\n", {"license": "mit"}),
        ("# Title", {}),
        ("---\n- a list\n---\n", {}),
        ("---\n{ no: yaml\n---\n", {}),
        ("---\nlicense: " + "[" * 5000, {}),
        ("\xff\xfe", {}),
        ("---\nbase_model: [org/base, {a: b}, 7]\nlicense: {a: b}\ntags: 7\n---\n", {"base_model": ["org/base"]}),
        ("", {}),
    ],
)
def test_card_of_a_folder_is_read_from_its_readme(folder, tmp_path, text, card):
    (folder / "README.md").write_bytes(text.encode("latin-1"))
    assert take_snapshot(model=str(folder), revision="", workspace=tmp_path / "workspace").card == card


def test_folder_without_manifest_is_not_taken_for_a_snapshot(client, tmp_path):
    folder = tmp_path / "models" / "org--whole" / COMMIT
    folder.mkdir(parents=True)
    assert client.snapshot("org/whole", tmp_path, COMMIT)["reused"] is False
    assert (folder / "snapshot.json").is_file()


@pytest.mark.parametrize(
    ("model", "revision", "what", "where", "remedy"),
    [
        ("org/absent", "main", "no such model", "org/absent", "org/name"),
        ("org/private", "main", "it is private", "org/private", "HF_TOKEN"),
        ("org/whole", "v9", "no revision 'v9'", "org/whole at revision v9", "a branch, a tag or a commit"),
        ("org/whole", "f" * 40, "no revision", "org/whole", "a branch, a tag or a commit"),
        ("org/damaged-config", "main", "config.json arrived damaged", "org/damaged-config", "run again"),
        ("org/no-template", "main", "lacks a chat template", "org/no-template", "-instruct"),
        ("org/experts", "main", "mixture of experts", "org/experts", "mini-trainer"),
        ("org/pickles", "main", "lacks weights (*.safetensors)", "org/pickles", "save_pretrained"),
    ],
)
def test_model_that_cannot_be_had_is_one_clear_error_and_leaves_nothing(
    client, tmp_path, model, revision, what, where, remedy
):
    found = client.problem(model, tmp_path, revision)
    assert what in found.what
    assert where in found.where
    assert remedy in found.remedy
    assert published(tmp_path) == []


@pytest.mark.parametrize("model", ["org/two--dashes", "org/two..dots", "-org/name", "org/name.git", "org/" + 97 * "n"])
def test_name_that_no_hub_can_hold_is_one_clear_error(hub, client, tmp_path, model):
    found = client.problem(model, tmp_path)
    assert model[:60] in f"{found.what} {found.where}"
    assert hub.asked_about(model) == []
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("model", ["org/no-template", "org/experts"])
def test_weights_of_an_unusable_model_are_never_downloaded(hub, client, tmp_path, model):
    client.problem(model, tmp_path)
    assert "model.safetensors" not in hub.sent_files(model)


def test_hub_that_is_down_is_one_clear_error(tmp_path):
    with HubServer({}) as gone:
        pass
    client = Client(gone.url, tmp_path / "home")
    found = client.problem("org/whole", tmp_path / "workspace")
    client.close()
    assert "cannot be reached" in found.what
    assert found.may_pass
    assert gone.url in found.where
    assert "HF_ENDPOINT" in found.remedy
    assert not (tmp_path / "workspace").exists() or files_below(tmp_path / "workspace") == []


def test_token_opens_a_private_model_and_travels_as_a_header_only(hub, tmp_path):
    client = Client(hub.url, tmp_path / "home", token=TOKEN)
    before = len(hub.requests)
    client.snapshot("org/private", tmp_path / "workspace")
    client.close()
    asked = [request for request in hub.requests[before:] if "/org/private/" in request.address]
    assert len(asked) > len(FILES)
    assert {request.authorization for request in asked} == {f"Bearer {TOKEN}"}
    assert not any(TOKEN in request.address for request in hub.requests)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > len(FILES)
    assert not any(TOKEN.encode() in path.read_bytes() for path in written)


@pytest.fixture
def folder(tmp_path):
    """A model on the disk, with more in it than belongs to it."""
    source = tmp_path / "my-model"
    (source / "onnx").mkdir(parents=True)
    for name, content in REPOSITORY.items():
        (source / name).write_bytes(content)
    return source


def test_local_folder_is_copied_and_verified(folder, tmp_path):
    report = take_snapshot(model=str(folder), revision="main", workspace=tmp_path / "workspace")
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


def test_same_content_is_copied_once(folder, tmp_path):
    first = take_snapshot(model=str(folder), revision="main", workspace=tmp_path / "workspace")
    (folder / "README.md").write_text("does not belong to the model")
    written = (first.path / "snapshot.json").stat().st_mtime_ns
    second = take_snapshot(model=str(folder), revision="main", workspace=tmp_path / "workspace")
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
def test_changed_content_is_another_commit_and_the_old_one_stays(folder, tmp_path, name, content):
    first = take_snapshot(model=str(folder), revision="main", workspace=tmp_path / "workspace")
    (folder / name).write_bytes(content)
    second = take_snapshot(model=str(folder), revision="main", workspace=tmp_path / "workspace")
    assert second.commit != first.commit
    assert not second.reused
    assert (first.path / name).read_bytes() == FILES[name]
    assert (second.path / name).read_bytes() == content


def test_snapshot_does_not_change_with_its_source(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    (tmp_path / "blob").write_bytes(FILES["model.safetensors"])
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")  # as in a hub's cache
    report = take_snapshot(model=str(folder), revision="main", workspace=tmp_path / "workspace")
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


def test_model_that_does_not_fit_is_refused_before_anything_is_copied(folder, tmp_path, monkeypatch):
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
    assert not take_snapshot(model=str(folder), revision="main", workspace=tmp_path / "workspace").reused


@pytest.mark.parametrize("below", ["file", "file/workspace"])
def test_workspace_that_cannot_be_written_is_named(folder, tmp_path, below):
    (tmp_path / "file").write_text("mine")
    found = only_problem_of(take_snapshot, model=str(folder), revision="main", workspace=tmp_path / below)
    assert "not writable" in found.what
    assert found.where == f"workspace {tmp_path / below}"
    assert "chmod" in found.remedy
    assert (tmp_path / "file").read_text() == "mine"
