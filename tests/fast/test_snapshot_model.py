import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.shared.storage import read_json
from tests.fast.conftest import files_below
from tests.hub_client import Client
from tests.hub_server import ALWAYS, COMMIT, Fault, HubServer, Repository, description, sha256
from tests.model_files import OTHERS, SMALL, shards, weights
from tests.tables import table

WEIGHTS = weights(bytes(range(256)) * 40)
FILES = {**SMALL, "model.safetensors": WEIGHTS}
SPLIT = {**SMALL, **shards()}
REPOSITORY = FILES | OTHERS
NO_WEIGHTS = SMALL | OTHERS
CARD = {"license": "apache-2.0", "base_model": ["org/base"], "license_name": "x" * 1000, "widget": ["not kept"]}
CARD |= {"tags": ["language", *(f"tag {n}" for n in range(100))]}
TOKEN = "hf_" + "t" * 20


def published(workspace: Path) -> list[str]:
    """All that stands under a final name: what is half there has a name with a dot in front."""
    return [name for name in files_below(workspace) if "/." not in name]


def spoilt(file: str, content: bytes) -> Fault:
    return Fault(file=file, content=content, times=ALWAYS)


REPOSITORIES = {
    "whole": Repository(files=REPOSITORY, revisions=("main", "v1.0", "refs/pr/1")),
    "reused": Repository(files=REPOSITORY),
    "private": Repository(files=REPOSITORY, token=TOKEN),
    "damaged-config": Repository(
        files=REPOSITORY, faults=(spoilt("config.json", FILES["config.json"].replace(b"llama", b"lIama")),)
    ),
    "no-template": Repository(files={**REPOSITORY, "tokenizer_config.json": b"{}"}),
    "experts": Repository(files={**REPOSITORY, "config.json": b'{"model_type": "x", "num_experts": 8}'}),
    "consolidated": Repository(files={**NO_WEIGHTS, **SPLIT, "consolidated.safetensors": WEIGHTS}),
    "cut": Repository(files={**REPOSITORY, "model.safetensors": WEIGHTS[:-1]}),
    "card": Repository(files=REPOSITORY, card=CARD),
    "repaired": Repository(files=REPOSITORY),
    "pickles": Repository(files=NO_WEIGHTS),
}


@pytest.fixture(scope="module")
def hub():
    with HubServer({f"org/{name}": repository for name, repository in REPOSITORIES.items()}) as server:
        yield server


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory):
    with Client(hub.url, tmp_path_factory.mktemp("home")) as started:
        yield started


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


FALSE_MANIFESTS = [  # all of the text, or what is replaced in it and by what
    "", "{", "[]", '{"files": []}', "[" * 200_000,
    ('"size": ', '"size": 1e999, "was": '), ('"size": ', '"size": -'), ('"size": ', '"size": "1", "was": '),
    ('"size": ', '"size": 1.5, "was": '), ('"sha256": "', '"sha256": "x'), ('"sha256": ', '"sha256": 7, "was": '),
    ("config.json", ".."), ("config.json", ""), ("config.json", ".config.json"), ("config.json", "a/config.json"),
    ("config.json", "snapshot.json"), ("config.json", "extra.safetensors"), ('"config.json"', "7"),
    (COMMIT, "f" * 40), ("commit", "comit"), ('"card": {}', '"card": 7'), ('"org/repaired"', "7"),
]  # fmt: skip


@pytest.mark.parametrize("change", FALSE_MANIFESTS, ids=lambda change: str(change)[:40])
def test_manifest_that_says_what_cannot_be_is_made_anew(hub, client, tmp_path, change):
    path = Path(client.snapshot("org/repaired", tmp_path)["path"])
    before, manifest = hub.sent_bytes["org/repaired"], (path / "snapshot.json").read_text()
    changed = change if isinstance(change, str) else manifest.replace(*change, 1)
    assert changed != manifest
    (path / "snapshot.json").write_text(changed)
    (path / "something").mkdir()
    for revision in (COMMIT, "main"):
        assert client.snapshot("org/repaired", tmp_path, revision)["commit"] == COMMIT
    assert {**read_json(path / "snapshot.json"), "revision": "main"} == json.loads(manifest)
    assert {entry.name for entry in path.iterdir()} == {*FILES, "snapshot.json"}
    assert hub.sent_bytes["org/repaired"] == before


@pytest.mark.parametrize("entry", ["nothing", "folder", "link"])
def test_what_stands_in_the_manifests_place_does_not_count(client, tmp_path, entry):
    path = Path(client.snapshot("org/repaired", tmp_path)["path"])
    (path / "snapshot.json").rename(tmp_path / "elsewhere.json")
    if entry == "folder":
        (path / "snapshot.json").mkdir()
    elif entry == "link":
        (path / "snapshot.json").symlink_to(tmp_path / "elsewhere.json")
    before = (tmp_path / "elsewhere.json").read_bytes()
    assert client.snapshot("org/repaired", tmp_path, COMMIT)["reused"]
    assert (path / "snapshot.json").is_file()
    assert not (path / "snapshot.json").is_symlink()
    assert (tmp_path / "elsewhere.json").read_bytes() == before


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


@pytest.fixture
def describe(hub):
    """Changes what the hub says of org/hostile."""

    def describe(change: Callable[[dict[str, Any]], None], *faults: Fault) -> None:
        told = description("org/hostile", Repository(files=FILES), with_blobs=True)
        change(told)
        commit = told["sha"] if isinstance(told["sha"], str) else COMMIT
        said = Fault(content=json.dumps(told).encode(), times=ALWAYS)
        hub.repositories["org/hostile"] = Repository(files=FILES, commit=commit, faults=(said, *faults))
        hub.sent_bytes["org/hostile"] = 0

    return describe


@pytest.mark.parametrize(
    "change",
    [
        *({"sha": sha} for sha in ("../../escaped", "/escaped", ".", "..", "main", COMMIT[1:], COMMIT.upper(), 7, [])),
        *({"size": size} for size in ("many", -5, 1.5, True, [7])),
        {"blobId": 7},
        {"rfilename": 7},
        {"rfilename": ["config.json"]},
    ],
)
def test_answer_that_no_hub_gives_is_refused_and_writes_nothing(describe, client, tmp_path, change):
    describe(lambda told: (told if "sha" in change else told["siblings"][0]).update(change))
    assert client.problem("org/hostile", tmp_path / "workspace").what == "the answer is not that of a hub"
    assert list(tmp_path.rglob("*")) == []
    assert not Path("/escaped").exists()


@pytest.mark.parametrize("card", [[1, 2], "text", 7, {"license": {"a": 1}}])
def test_card_of_another_form_is_none(describe, client, tmp_path, card):
    describe(lambda told: told.update(cardData=card))
    assert client.snapshot("org/hostile", tmp_path)["card"] == {}


def test_digest_in_capitals_counts(describe, client, tmp_path):
    def capitals(told: dict[str, Any]) -> None:
        (lfs,) = (sibling["lfs"] for sibling in told["siblings"] if "lfs" in sibling)
        lfs["sha256"] = lfs["sha256"].upper()

    describe(capitals, spoilt("model.safetensors", WEIGHTS[:-1] + b"x"))
    assert "model.safetensors arrived damaged" in client.problem("org/hostile", tmp_path).what


@pytest.mark.parametrize("model", ["/mnt/" + "n" * 300, "n" * 5000, "org/" + "n" * 300])
def test_name_that_no_file_can_have_is_one_clear_error(client, tmp_path, model):
    assert client.problem(model, tmp_path).what


def test_hub_that_is_down_leaves_what_the_branch_was_and_says_so(tmp_path):
    with HubServer({"org/model": Repository(files=REPOSITORY)}) as hub, Client(hub.url, tmp_path / "home") as client:
        first = client.snapshot("org/model", tmp_path)
        pinned = client.snapshot("org/model", tmp_path, COMMIT)
    assert (first["is_current"], pinned["is_current"]) == (True, True)
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


@pytest.mark.parametrize(("model", "revision", "what", "where", "remedy"), table("snapshot_model", "cannot_be_had"))
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
    with Client(gone.url, tmp_path / "home") as client:
        found = client.problem("org/whole", tmp_path / "workspace")
    assert "cannot be reached" in found.what
    assert found.may_pass
    assert gone.url in found.where
    assert "HF_ENDPOINT" in found.remedy
    assert files_below(tmp_path / "workspace") == []


def test_token_opens_a_private_model_and_travels_as_a_header_only(hub, tmp_path):
    before = len(hub.requests)
    with Client(hub.url, tmp_path / "home", token=TOKEN) as client:
        client.snapshot("org/private", tmp_path / "workspace")
    asked = [request for request in hub.requests[before:] if "/org/private/" in request.address]
    assert len(asked) > len(FILES)
    assert {request.authorization for request in asked} == {f"Bearer {TOKEN}"}
    assert not any(TOKEN in request.address for request in hub.requests)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > len(FILES)
    assert not any(TOKEN.encode() in path.read_bytes() for path in written)
