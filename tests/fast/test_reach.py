"""What a step reads and whom it asks, whatever its parameters say."""

import socket
from pathlib import Path

import pytest

from components.data.questions import read_gap_questions, read_retention_questions
from components.grading.endpoint_judge import EndpointJudge
from components.ingest_sdg.core import check_data
from components.run.data_options import DataOptions
from components.shared import reach, sources
from components.shared.addresses import may_hold_secret
from components.shared.problems import Problems, quote_address
from components.snapshot_model.core import take_snapshot
from tests.fast.conftest import only_problem_of
from tests.http_server import Answer, HttpServer, Request
from tests.tables import table

TABLE = b"question,reference\nWhich bird?,heron\n"
TOKEN = "eyJ" + "hunter2" * 100


@pytest.fixture
def pod(tmp_path, monkeypatch):
    """A pod whose workspace has a file, and links to what lies beside it."""
    volume, beside = tmp_path / "ws", tmp_path / "beside"
    for folder in (volume, beside, volume / "with_link", volume / "rounds"):
        folder.mkdir()
    for path in (volume / "qa.csv", beside / "qa.csv", volume / "rounds" / "a.csv"):
        path.write_bytes(TABLE)
    (volume / "link.csv").symlink_to(beside / "qa.csv")
    (volume / "with_link" / "link.csv").symlink_to(beside / "qa.csv")
    (volume / "out").symlink_to(beside)
    (volume / "inner.csv").symlink_to(volume / "qa.csv")
    monkeypatch.setenv(reach.WORKSPACE, str(volume))
    return volume


@pytest.mark.parametrize("address", table("reach", "secrets"))
def test_an_address_with_a_secret_is_known_in_every_spelling_and_not_repeated(pod, address):
    assert may_hold_secret(address)
    assert "hunter2" not in quote_address(address)
    for read in (sources.find_files, read_gap_questions, model):
        assert "hunter2" not in str(only_problem_of(read, address))


@pytest.mark.parametrize("address", table("reach", "no_secrets"))
def test_an_address_without_one_is_none(address):
    assert not may_hold_secret(address)


def model(address: str) -> None:
    take_snapshot(model=address, revision="main", workspace=Path("/nowhere"))


@pytest.mark.parametrize(("address", "what"), table("reach", "refused_paths"))
def test_a_pod_reads_from_the_workspace_volume_only(pod, tmp_path, address, what):
    found = only_problem_of(sources.find_files, address.format(tmp=tmp_path))

    assert found.what.endswith(what)
    assert f"below {pod}" in found.rule


def test_a_pod_reads_what_lies_on_the_volume(pod):
    for address in ("qa.csv", "inner.csv", "rounds", "rou*/*.csv"):
        assert sources.find_files(f"{pod}/{address}")
    assert read_retention_questions(""), "the project's own lie in the image"


def test_a_laptop_reads_what_is_its_users(pod, tmp_path, monkeypatch):
    monkeypatch.delenv(reach.WORKSPACE)

    assert sources.read_bytes(f"{tmp_path}/ws/link.csv") == sources.read_bytes(f"{tmp_path}/beside/qa.csv") == TABLE


@pytest.mark.parametrize("in_a_pod", [True, False])
@pytest.mark.parametrize("address", table("reach", "refused_everywhere"))
def test_nothing_reads_what_the_system_or_kubernetes_keeps(pod, monkeypatch, in_a_pod, address):
    if not in_a_pod:
        monkeypatch.delenv(reach.WORKSPACE)

    found = only_problem_of(sources.find_files, address)

    assert "where the system or Kubernetes keeps its own" in found.what or in_a_pod
    assert "no step reads from" in found.rule or in_a_pod


def test_a_link_to_what_nobody_reads_is_refused(tmp_path):
    (tmp_path / "qa.csv").symlink_to("/proc/self/environ")

    assert "is a link to what lies where the system" in only_problem_of(sources.find_files, f"{tmp_path}/qa.csv").what


def test_a_model_lies_on_the_volume_with_all_its_files(pod, tmp_path):
    (pod / "tiny").mkdir()
    (pod / "tiny" / "config.json").symlink_to(tmp_path / "beside" / "qa.csv")

    assert "does not lie on the workspace volume" in only_problem_of(model, f"{tmp_path}/beside").what
    assert "does not lie on the workspace volume" in only_problem_of(model, f"{pod}/out").what  # resolved already
    found = only_problem_of(model, f"{pod}/tiny")
    assert "is a link out of" in found.what
    assert found.where.endswith("tiny/config.json'")


@pytest.mark.parametrize(
    "read", [read_gap_questions, read_retention_questions, lambda path: check_data(path, DataOptions())]
)
@pytest.mark.parametrize("text", [TOKEN, f"question,reference,{TOKEN}\n?,!,{TOKEN}\n", f'{{"{TOKEN}": "{TOKEN}"}}\n'])
def test_a_file_that_is_no_table_is_not_repeated_in_full(tmp_path, read, text):
    (tmp_path / "token").write_text(text, encoding="utf-8")

    with pytest.raises(Problems) as error:
        read(str(tmp_path / "token"))

    assert TOKEN[:81] not in str(error.value)
    assert str(error.value).count("hunter2") < 40


@pytest.mark.parametrize("address", table("reach", "private"))
def test_an_address_that_is_not_of_the_internet_is_private(address):
    assert reach.is_private(address)


@pytest.mark.parametrize("address", table("reach", "public"))
def test_other_addresses_are_not(address):
    assert not reach.is_private(address)


class Host(HttpServer):
    """A table; below /to/ a redirect to the rest of the path."""

    def answer(self, request: Request) -> Answer:
        if "/to/" in request.path:
            return Answer(status=302, headers={"Location": request.path.partition("/to/")[2]})
        return Answer(body=TABLE)


@pytest.fixture
def host():
    with Host() as server:
        yield server


def test_data_at_private_addresses_is_read_where_the_cluster_file_names_the_host(pod, host, monkeypatch):
    port = host.url.rpartition(":")[2]
    by_name = f"http://localhost:{port}"
    for address in (host.url, by_name):
        assert "which is private" in only_problem_of(sources.read_bytes, f"{address}/qa.csv").what
    for named in (f"127.0.0.1,localhost:{port}", f"127.0.0.1, localhost,127.0.0.1:{port}"):
        monkeypatch.setenv(reach.DATA_HOSTS, named)
        for address in (host.url, by_name):
            assert sources.read_bytes(f"{address}/qa.csv") == TABLE, (named, address)


def test_a_redirect_to_a_private_address_is_not_followed(pod, host, monkeypatch):
    """The names stand for hosts of the internet and of the cloud's metadata service."""
    port = host.url.rpartition(":")[2]
    monkeypatch.setenv(reach.DATA_HOSTS, f"127.0.0.1:{port}")
    monkeypatch.setattr(reach, "is_private", lambda address: address in ("127.0.0.2", "::1"))

    found = only_problem_of(sources.read_bytes, f"{host.url}/to/http://127.0.0.2:{port}/latest/meta-data")

    assert found.what == "the address leads to 127.0.0.2, which is private"


def test_a_name_that_leads_inside_is_private(pod, host, monkeypatch):
    port = host.url.rpartition(":")[2]
    inside = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port)))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: inside)

    assert (
        "127.0.0.1, which is private" in only_problem_of(sources.read_bytes, f"http://data.example:{port}/qa.csv").what
    )


@pytest.mark.parametrize(("url", "cluster", "secret", "asked"), table("reach", "judges"))
def test_a_judge_is_asked_where_the_cluster_names_its_host(pod, monkeypatch, url, cluster, secret, asked):
    monkeypatch.setenv(reach.JUDGE_HOSTS, cluster)
    monkeypatch.setenv(reach.HOSTS_OF_SECRET, secret)

    def ask() -> None:
        EndpointJudge(url, "judge", concurrency=1, timeout_seconds=1, reply_tokens=16)

    if asked:
        ask()
    else:
        assert only_problem_of(ask).where == "parameter judge_url"
        monkeypatch.delenv(reach.WORKSPACE)
        ask()
