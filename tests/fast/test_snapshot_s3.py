"""A model in an object store: against a server that speaks S3."""

import pytest

from components.shared.storage import read_json
from components.shared.workspace import snapshot_folder
from components.snapshot_model import fetching, s3
from components.snapshot_model.assembly import assemble_snapshot
from components.snapshot_model.core import take_snapshot
from components.snapshot_model.verification import verify
from tests.fast.conftest import files_below, only_problem_of, problems_of
from tests.model_files import OTHERS, SMALL, weights
from tests.s3_server import running
from tests.tables import table

WEIGHTS = weights(bytes(range(256)) * 40_000)  # several pieces
FILES = {**SMALL, "model.safetensors": WEIGHTS}
OTHER_TOKENIZER = SMALL["tokenizer.json"] + b" "
ADDRESS = "s3://models/team/my-model"


@pytest.fixture(scope="module")
def server():
    with running() as server:
        yield server


@pytest.fixture
def bucket(server, monkeypatch):
    """The bucket "models" with a model in it, and the data connection in the environment."""
    for name, value in {**server.environment, "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    store = server.resource.Bucket("models")
    store.create()
    for name, content in {**FILES, **OTHERS}.items():
        store.put_object(Key=f"team/my-model/{name}", Body=content)
    yield store
    store.objects.delete()
    store.delete()


@pytest.mark.parametrize("address", [ADDRESS, f"{ADDRESS}/"])
def test_model_is_brought_with_nothing_else_and_verified(bucket, tmp_path, address):
    report = take_snapshot(model=address, revision="main", workspace=tmp_path)
    assert report.path == snapshot_folder(tmp_path, "s3/my-model", report.commit)
    assert files_below(tmp_path) == sorted(
        str((report.path / name).relative_to(tmp_path)) for name in [*FILES, "snapshot.json"]
    )
    assert all((report.path / name).read_bytes() == content for name, content in FILES.items())
    assert report.card == {"license": "apache-2.0", "base_model": "org/base"}
    assert read_json(report.path / "snapshot.json")["source"] == report.source == ADDRESS
    assert verify(report.path, repair=False)


def test_same_state_is_brought_once_and_another_state_beside_it(bucket, tmp_path):
    first = take_snapshot(model=ADDRESS, revision="", workspace=tmp_path)
    bucket.put_object(Key="team/my-model/README.md", Body=b"does not belong to the model")
    assert take_snapshot(model=ADDRESS, revision="", workspace=tmp_path).reused
    bucket.put_object(Key="team/my-model/tokenizer.json", Body=OTHER_TOKENIZER)
    second = take_snapshot(model=ADDRESS, revision="", workspace=tmp_path)
    assert second.commit != first.commit
    assert (first.path / "tokenizer.json").read_bytes() == SMALL["tokenizer.json"]
    assert (second.path / "tokenizer.json").read_bytes() == OTHER_TOKENIZER


def test_broken_file_is_fetched_again_alone(bucket, tmp_path):
    path = take_snapshot(model=ADDRESS, revision="", workspace=tmp_path).path
    (path / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"x")
    assert len(problems_of(verify, path, repair=False)) == 1
    assert verify(path, repair=True)[0].repaired == ("model.safetensors",)
    assert (path / "model.safetensors").read_bytes() == WEIGHTS


def test_download_goes_on_from_what_is_there(bucket, tmp_path):
    source = s3.open_s3(ADDRESS)
    final = snapshot_folder(tmp_path, "s3/my-model", source.commit)
    partial = final.parent / f".partial-{source.commit}"
    partial.mkdir(parents=True)
    (partial / "model.safetensors").write_bytes(WEIGHTS[:9_000_000])
    assembled = assemble_snapshot(tmp_path, final, source)
    assert assembled.reused_bytes == 9_000_000
    assert (final / "model.safetensors").read_bytes() == WEIGHTS


def test_object_that_changes_while_it_is_read_is_an_error(bucket, tmp_path):
    source = s3.open_s3(ADDRESS)
    bucket.put_object(Key="team/my-model/model.safetensors", Body=WEIGHTS[::-1])
    found = only_problem_of(fetching.fetch_files, tmp_path, source.files, source)
    assert (found.what, found.may_pass) == ("model.safetensors changed while it was read", True)


@pytest.mark.parametrize(("address", "what"), table("snapshot_s3", "absent"))
def test_model_that_is_not_there_is_one_clear_error(bucket, tmp_path, address, what):
    found = only_problem_of(take_snapshot, model=address, revision="", workspace=tmp_path)
    assert what in found.what
    assert address.removeprefix("s3://").split("/")[0] in found.where
    assert "secret" not in str(found)
    assert [name for name in files_below(tmp_path) if "/." not in name] == []


@pytest.mark.parametrize(
    ("address", "name"),
    [("s3://bucket/a/b/", "b"), ("s3://bucket", "bucket"), ("s3://bucket/ö x", "--x"), ("s3://bucket/..", "model")],
)
def test_folder_is_named_after_the_last_part_of_the_address(address, name):
    assert s3.folder_name(address) == name


def upload_in_parts(bucket):
    upload = bucket.Object("team/my-model/model.safetensors").initiate_multipart_upload()
    half = 6 << 20
    parts = [upload.Part(number).upload(Body=body) for number, body in ((1, WEIGHTS[:half]), (2, WEIGHTS[half:]))]
    listed = [{"PartNumber": number, "ETag": part["ETag"]} for number, part in enumerate(parts, 1)]
    upload.complete(MultipartUpload={"Parts": listed})


def encrypt(bucket):
    key = "team/my-model/model.safetensors"
    bucket.put_object(Key=key, Body=WEIGHTS, ServerSideEncryption="aws:kms", SSEKMSKeyId="key")


@pytest.mark.parametrize(
    ("upload", "can_compare"), [(lambda bucket: None, True), (upload_in_parts, False), (encrypt, False)]
)
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_leftover_of_other_bytes_never_counts(bucket, tmp_path, upload, can_compare, share):
    upload(bucket)
    source = s3.open_s3(ADDRESS)
    assert bool(source.files["model.safetensors"].digest) is can_compare
    final = snapshot_folder(tmp_path, "s3/my-model", source.commit)
    partial = final.parent / f".partial-{source.commit}"
    partial.mkdir(parents=True)
    (partial / "model.safetensors").write_bytes(bytes(int(share * len(WEIGHTS))))
    assemble_snapshot(tmp_path, final, source)
    assert (final / "model.safetensors").read_bytes() == WEIGHTS
