"""Addresses, against real servers."""

import errno
import gzip
import os

import fsspec
import pytest

from components.data import texts
from components.data.tables import read_table
from components.shared import source_errors, sources
from tests.fast.conftest import ingest, only_problem_of
from tests.http_server import Answer, HttpServer, Request
from tests.s3_server import running
from tests.tables import table

TABLE = b"question,response,faithfulness_judgment\nWho?,The heron.,YES\n"
OBJECTS = {
    "qa.csv": TABLE,
    "rounds/a/qa.csv": TABLE + b"What?,A sash.,YES\n",
    "rounds/b/qa.csv": TABLE + b"Where?,North.,NO\n",
    "rounds/_SUCCESS": b"",
    "odd//a.csv": TABLE,
    "odd/../b.csv": TABLE,
    "odd/_c.csv": TABLE,
    "gap.csv": b"question,reference\nWhich bird?,heron\n",
}


@pytest.fixture(scope="module")
def server():
    with running() as server:
        server.client.create_bucket(Bucket="data")
        for key, body in OBJECTS.items():
            server.client.put_object(Bucket="data", Key=key, Body=body)
        yield server


@pytest.fixture
def s3(server, monkeypatch):
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_S3_BUCKET", "data")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(sources, "SECONDS_BETWEEN_ATTEMPTS", 0.01)
    return monkeypatch


@pytest.mark.parametrize(("address", "names"), table("sources", "object_store"))
def test_file_folder_and_glob_in_an_object_store_are_read(s3, tmp_path, address, names):
    files = sources.find_files(address)

    assert [file.name for file in files] == names
    for file in files:
        key = next(key for key in OBJECTS if key.endswith(file.name))
        file.copy(tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == OBJECTS[key]
        assert b"".join(file.pieces(start=7)) == OBJECTS[key][7:]
        assert (file.size, file.local) == (len(OBJECTS[key]), None)


def test_folder_and_glob_of_an_object_store_have_the_same_files(s3):
    in_folder = {file.address for file in sources.find_files("s3://data/odd")}

    assert in_folder == {f"s3://data/odd/{name}" for name in ("/a.csv", "../b.csv")}
    assert in_folder == {file.address for file in sources.find_files("s3://data/odd/**")}
    assert len(sources.find_files("s3://data")) == 6


def test_long_list_of_an_object_store_is_read_to_its_end(s3, server):
    server.client.create_bucket(Bucket="many")
    for number in range(1005):
        server.client.put_object(Bucket="many", Key=f"{number}.csv", Body=b"")

    assert len(sources.find_files("s3://many")) == 1005


def test_step_reads_data_and_questions_from_an_object_store(s3, tmp_path):
    report = ingest(tmp_path, "s3://data/rounds", "s3://data/gap.csv", "s3:///gap.csv")

    assert (report.files, report.rows_read, report.kept) == (2, 4, 2)
    dropped = (tmp_path / "out" / "dropped.jsonl").read_text(encoding="utf-8")
    assert '"file": "b/qa.csv", "line": 3' in dropped


@pytest.mark.parametrize(("address", "changed", "what"), table("sources", "refused"))
def test_what_an_object_store_refuses_is_one_error_without_keys(s3, server, address, changed, what):
    for name, value in changed.items():
        s3.setenv(name, value)

    found = only_problem_of(sources.find_files, address)

    assert found.what.startswith(what)
    assert found.may_pass == what.startswith("cannot be read")
    assert address in found.where
    for secret in ("AKIAWRONGKEY", "wr0ng", server.environment["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in str(found)


def test_missing_keys_are_named(s3):
    s3.delenv("AWS_ACCESS_KEY_ID")
    s3.delenv("AWS_SECRET_ACCESS_KEY")

    found = only_problem_of(sources.find_files, "s3://data/qa.csv")

    assert found.what == "there are no access keys"
    assert "data connection" in found.remedy


class Host(HttpServer):
    """A file; addresses with a number give that status, `cut` gives half of what it promises."""

    def answer(self, request: Request) -> Answer:
        last = request.path.rpartition("/")[2]
        if request.method == "HEAD":
            return Answer(status=405)  # as addresses with a signature for GET do
        if last in ("gzip", "br"):
            return Answer(body=gzip.compress(TABLE), headers={"Content-Encoding": last})
        if last == "cut":
            return Answer(body=bytes(100), sent=0.5)
        return Answer(body=TABLE) if last == "q%20a.csv" else Answer(status=int(last) if last.isdigit() else 404)


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setattr(sources, "SECONDS_BETWEEN_ATTEMPTS", 0.01)
    with Host() as server:
        yield server.url.replace("://", "://user:passw0rd@")


def test_file_of_a_web_server_is_read(host):
    assert sources.read_bytes(f"{host}/q%20a.csv?signature=s3cret") == TABLE


@pytest.mark.parametrize(("path", "what"), table("sources", "web_server"))
def test_what_a_web_server_refuses_is_one_error_without_the_address_secrets(host, path, what):
    found = only_problem_of(sources.read_bytes, f"{host}/{path}?signature=s3cret")

    assert found.what == what
    assert found.may_pass == what.startswith("cannot be read")
    assert f"/{path}?…" in found.where
    assert "s3cret" not in str(found)
    assert "passw0rd" not in str(found)


def test_what_a_server_packs_is_unpacked_only_by_who_knows_its_bounds(host):
    assert gzip.decompress(sources.read_bytes(f"{host}/gzip")) == TABLE
    assert read_table(f"{host}/gzip").columns == ["question", "response", "faithfulness_judgment"]


def test_server_that_is_not_there_is_one_error(monkeypatch):
    monkeypatch.setattr(sources, "SECONDS_BETWEEN_ATTEMPTS", 0.01)
    found = only_problem_of(sources.read_bytes, "https://127.0.0.1:1/qa.csv")

    assert found.what == "cannot be read: no answer (ClientConnectorError)"
    assert "3 times" in found.rule


def test_files_of_a_folder_are_sorted_and_markers_are_passed_over(tmp_path):
    for name in ("b.csv", "a/z.csv", "a/.hidden.csv", "_SUCCESS", ".tmp/x.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(TABLE)

    assert [file.name for file in sources.find_files(str(tmp_path))] == ["a/z.csv", "b.csv"]
    for pattern, names in {
        "*": ["b.csv"],
        "*/*.csv": ["a/z.csv"],
        "**": ["a/z.csv", "b.csv"],
        "_*": ["_SUCCESS"],
        "*/.*.csv": ["a/.hidden.csv"],
        ".tmp/*": ["x.csv"],
    }.items():
        assert [file.name for file in sources.find_files(f"file://{tmp_path}/{pattern}")] == names, pattern


@pytest.mark.parametrize(("target", "address", "what"), table("sources", "links"))
def test_link_of_a_folder_that_is_no_file_is_named(tmp_path, target, address, what):
    (tmp_path / "other").mkdir()
    (tmp_path / "rounds").mkdir()
    (tmp_path / "rounds" / "a.csv").write_bytes(TABLE)
    (tmp_path / "rounds" / "link.csv").symlink_to(tmp_path / target)

    found = only_problem_of(sources.find_files, f"{tmp_path}/rounds{address}")

    assert (found.what, found.where) == (what, f"{tmp_path}/rounds/link.csv")


def test_links_to_files_and_a_link_as_the_address_are_read(tmp_path):
    (tmp_path / "rounds").mkdir()
    (tmp_path / "a.csv").write_bytes(TABLE)
    (tmp_path / "rounds" / "link.csv").symlink_to(tmp_path / "a.csv")
    (tmp_path / "current").symlink_to(tmp_path / "rounds")

    for address in ("rounds", "current", "current/*.csv", "c*t/*.csv", "current/**"):
        assert [file.name.rpartition("/")[2] for file in sources.find_files(f"{tmp_path}/{address}")] == ["link.csv"]


def test_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    path = tmp_path / "qa[1].csv"
    path.write_bytes(TABLE)

    assert sources.read_bytes(str(path)) == TABLE


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("empty", "the folder holds no file"),
        ("none-*.csv", "the glob matches no file"),
        ("a\0b", "no usable address"),
        ("x" * 300, "cannot be read: File name too long"),
    ],
)
def test_path_without_a_file_is_one_error(tmp_path, path, what):
    (tmp_path / "empty").mkdir()

    assert only_problem_of(sources.find_files, f"{tmp_path}/{path}").what == what


@pytest.mark.parametrize(("error", "may_pass"), [(errno.ESTALE, True), (errno.EIO, True), (errno.EISDIR, False)])
def test_network_volume_that_is_away_may_come_back(tmp_path, error, may_pass):
    def list_files() -> None:
        with source_errors.reading("/data/qa.csv", fsspec.filesystem("file")):
            raise OSError(error, os.strerror(error))

    def open_table() -> None:
        with texts.reading(tmp_path, "/data/qa.csv"):
            raise OSError(error, os.strerror(error))

    assert [only_problem_of(read).may_pass for read in (list_files, open_table)] == [may_pass] * 2


def test_device_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    assert only_problem_of(sources.find_files, f"{tmp_path}/pipe").what == "this is no file but a device"


def test_folder_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_FILES", 3)
    for number in range(4):
        (tmp_path / f"{number}.csv").write_bytes(TABLE)

    assert "more than 3 files" in only_problem_of(sources.find_files, str(tmp_path)).what


@pytest.mark.parametrize(("address", "shown"), table("sources", "shown"))
def test_address_is_shown_without_credentials(address, shown):
    assert sources.without_credentials(address) == shown
