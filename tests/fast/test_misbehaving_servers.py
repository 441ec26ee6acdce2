"""Servers that trickle, never end or tell lies: whoever asks ends in time with one error."""

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from components.grading.cases import Case
from components.grading.endpoint_judge import EndpointJudge
from components.notify import core as notifying
from components.shared import object_store, sources
from components.snapshot_model import s3
from pipeline.cluster.access import Access
from pipeline.cluster.connection import RetryPolicy, connect
from tests.fast.conftest import only_problem_of
from tests.http_server import Answer, HttpServer, Request
from tests.hub_client import Client
from tests.hub_server import COMMIT, Fault, HubServer, Repository, description
from tests.kfp_server import Fault as KfpFault
from tests.kfp_server import KfpServer
from tests.model_files import OTHERS, SMALL, weights

BYTE_SECONDS = 0.2  # below every client's own time-out for a silence
SECONDS = 1.5  # for a call
HEAD = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: "1"\r\n'
LONG_BODY = HEAD + b"Content-Length: 1000000000000\r\n\r\n"
WEIGHTS = weights(bytes(range(256)) * 4_000)
FILES = {**SMALL, "model.safetensors": WEIGHTS}


class Trickling(HttpServer):
    """Sends the head, or the body, of every answer byte by byte and without end; or a body as fast as it can."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def answer(self, request: Request) -> Answer:
        if request.method == "HEAD" and self.how == "body":
            return Answer(404)  # an answer without a body is whole at once: the folder would be found as a file
        return Answer(raw=trickle(self.closing, self.how))


def trickle(closing: threading.Event, how: str) -> Iterator[bytes]:
    yield HEAD + b"X-Padding: " if how == "head" else LONG_BODY
    while not closing.is_set():
        yield bytes(1 << 16) if how == "flood" else b" "
        closing.wait(0 if how == "flood" else BYTE_SECONDS)


def ask_judge(url: str) -> None:
    judge = EndpointJudge(url, "judge-model", concurrency=2, timeout_seconds=SECONDS, reply_tokens=100)
    judge.verdicts([Case("Who?", "the heron", "A heron.")])


CALLS: dict[str, Callable[[str], object]] = {
    "KFP": lambda url: connect(Access(host=url), RetryPolicy(attempt_seconds=SECONDS, pauses_seconds=())),
    "judge": ask_judge,
    "https": lambda url: sources.read_bytes(f"{url}/qa.csv"),
    "list of objects": lambda url: sources.find_files("s3://bucket/folder/"),
}


@pytest.fixture
def short(monkeypatch, tmp_path):
    """Short times, and nobody's own settings."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "JUDGE_API_KEY"):
        monkeypatch.setenv(name, "key")
    monkeypatch.setattr("components.grading.endpoint_judge.RETRIES", 0)
    monkeypatch.setattr("components.grading.endpoint_judge.FIRST_PAUSES", 0)
    for name, value in {"CONNECT_SECONDS": SECONDS / 2, "READ_SECONDS": SECONDS / 2, "LIST_SECONDS": SECONDS}.items():
        monkeypatch.setattr(sources, name, value)
    monkeypatch.setattr(sources, "ATTEMPTS", 1)
    monkeypatch.setattr(sources, "MAX_BYTES_IN_MEMORY", 1 << 22)
    monkeypatch.setattr(s3, "ASK_SECONDS", SECONDS)
    return monkeypatch


@pytest.mark.parametrize(
    ("name", "how"),
    [(name, how) for name in CALLS for how in ("head", "body", "flood") if (name, how) != ("list of objects", "flood")],
)
def test_call_ends_in_time_whatever_trickles(short, name, how):
    with Trickling(how) as server:
        short.setenv("AWS_S3_ENDPOINT", server.url)
        started = time.monotonic()

        found = only_problem_of(CALLS[name], server.url)

        assert time.monotonic() - started < 10  # of which some are for imports
        assert found.remedy


@pytest.mark.parametrize("how", ["head", "body"])
def test_webhook_that_trickles_is_left(short, capsys, how):
    short.setattr(notifying, "TIMEOUT_SECONDS", SECONDS)
    short.setattr(notifying, "PAUSES_SECONDS", (0.0,))
    with Trickling(how) as server:
        short.setenv("WEBHOOK_URL", server.url)
        started = time.monotonic()

        notifying.notify(state="SUCCEEDED", run="run", runs_page="")

        assert time.monotonic() - started < 3 * SECONDS
    assert ("notification sent" in capsys.readouterr().out) == (how == "body")


class TricklingHub(HubServer):
    """A hub of which the answers that `is_spoilt` names trickle."""

    def __init__(self, how: str, is_spoilt: Callable[[Request], bool], repository: Repository) -> None:
        super().__init__({"org/model": repository})
        self.how, self.is_spoilt = how, is_spoilt

    def answer(self, request: Request) -> Answer:
        if not self.is_spoilt(request):
            return super().answer(request)
        return Answer(raw=trickle(self.closing, self.how))


IN_HALVES = (Fault(file="model.safetensors", cut_at=0.5),)
HUB = {
    "description": (lambda request: "/api/" in request.path, ["head", "body", "flood"]),
    "file": (lambda request: request.path.endswith(".safetensors"), ["head", "body"]),
    "skipped beginning": (lambda request: "range" in request.headers, ["body"]),
}


@pytest.mark.parametrize(("name", "how"), [(name, how) for name, (_, hows) in HUB.items() for how in hows])
def test_download_ends_in_time_whatever_trickles(tmp_path, name, how):
    repository = Repository(files=FILES, faults=IN_HALVES if name == "skipped beginning" else ())
    bounded = "import resource; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))"
    with (
        TricklingHub(how, HUB[name][0], repository) as hub,
        Client(hub.url, tmp_path / "home", changes=bounded) as client,
    ):
        started = time.monotonic()

        found = client.problem("org/model", tmp_path / "workspace")

        assert time.monotonic() - started < 12
    assert found.may_pass or found.what == "the answer is not that of a hub"


def test_mirror_is_asked_about_wanted_files_only(tmp_path):
    others = {**OTHERS, "consolidated.safetensors": b"x", "pytorch_model.bin": b"x", "onnx/model.onnx": b"x"}
    repository = Repository(files={**FILES, **others}, is_plain_mirror=True)
    with HubServer({"org/model": repository}) as hub, Client(hub.url, tmp_path / "home") as client:
        client.snapshot("org/model", tmp_path)

        asked = {request.path.rpartition("/")[2] for request in hub.requests if request.method == "HEAD"}
        assert asked == set(FILES)


class LyingHub(HubServer):
    """A mirror that answers a range with another one."""

    def __init__(self, header: str | None) -> None:
        super().__init__({"org/model": Repository(files=FILES, faults=IN_HALVES, is_plain_mirror=True)})
        self.header = header

    def answer(self, request: Request) -> Answer:
        answer = super().answer(request)
        if answer.status != 206 or not request.headers["range"].endswith("-"):
            return answer
        size, start = len(WEIGHTS), int(request.headers["range"].removeprefix("bytes=").rstrip("-"))
        headers = {name: value for name, value in answer.headers.items() if name != "Content-Range"}
        if self.header is not None:
            headers["Content-Range"] = self.header.format(size=size, last=size - 1, other=start - 1000)
        return dataclasses.replace(answer, headers=headers, body=[WEIGHTS[: size - start]])


@pytest.mark.parametrize(
    "header", [None, "bytes 0-{last}/{size}", "bytes {other}-{last}/{size}", "bytes */{size}", "bytes ²-{last}/²", ""]
)
def test_range_that_begins_elsewhere_is_no_part_of_the_file(tmp_path, header):
    with LyingHub(header) as hub, Client(hub.url, tmp_path / "home") as client:
        found = client.problem("org/model", tmp_path)

    assert "where bytes from" in found.what
    assert not list(tmp_path.rglob("snapshot.json"))


DESCRIBED = description("org/model", Repository(files=FILES), True)


@pytest.mark.parametrize(
    "change",
    [
        {"siblings": [{"rfilename": "config.json", "size": 10**400}]},
        {"siblings": [{"rfilename": "config.json", "size": -1}]},
        {"siblings": [{"rfilename": ["config.json"], "size": 1}]},
        {"siblings": [{"rfilename": "config.json", "size": 1, "lfs": 7}]},
        {"siblings": [7]},
        {"siblings": 7},
        {"sha": f"{COMMIT}/.."},
    ],
    ids=str,
)
def test_description_that_cannot_be_is_none_of_a_hub(tmp_path, change):
    fault = Fault(content=json.dumps({**DESCRIBED, **change}).encode(), times=100)
    with (
        HubServer({"org/model": Repository(files=FILES, faults=(fault,))}) as hub,
        Client(hub.url, tmp_path / "home") as client,
    ):
        assert client.problem("org/model", tmp_path).what == "the answer is not that of a hub"


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"sha": ' + b"9" * 5000, b"\xff"])
def test_description_that_nobody_can_read_is_none_of_a_hub(tmp_path, content):
    repository = Repository(files=FILES, faults=(Fault(content=content, times=100),))
    with HubServer({"org/model": repository}) as hub, Client(hub.url, tmp_path / "home") as client:
        assert client.problem("org/model", tmp_path).what == "the answer is not that of a hub"


@pytest.mark.parametrize("wish", ["²", "9" * 400, "Wed, 21 Oct 2026 07:28:30"])
def test_wish_of_a_hub_that_means_nothing_is_none(tmp_path, wish):
    # A header may hold any byte; the server writes them as Latin-1.
    fault = Fault(status=429, headers={"Retry-After": wish, "Date": "Wed, 21 Oct 2026 07:28:29 GMT"})
    with (
        HubServer({"org/model": Repository(files=FILES, faults=(fault,))}) as hub,
        Client(hub.url, tmp_path / "home") as client,
    ):
        assert client.snapshot("org/model", tmp_path)


class Store(HttpServer):
    """An object store that holds one object, and answers as `how` says."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def answer(self, request: Request) -> Answer:
        if "list-type" in request.query:
            more = "<IsTruncated>true</IsTruncated><NextContinuationToken>more</NextContinuationToken>"
            entry = f"<Contents><Key>model/model.safetensors</Key><Size>{len(WEIGHTS)}</Size></Contents>"
            body = f"<ListBucketResult>{more if self.how == 'endless list' else ''}{entry}</ListBucketResult>"
            return Answer(body=body.encode(), headers={"Content-Type": "application/xml"})
        if not request.path.endswith("/model.safetensors"):
            return Answer(status=404)
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        content, headers, status = WEIGHTS, {"ETag": '"1"'}, 200
        if start and self.how == "wrong range":
            headers["Content-Range"], status = f"bytes 0-{len(WEIGHTS) - 1}/{len(WEIGHTS)}", 206
        return Answer(status=status, body=content, headers=headers)


@pytest.mark.parametrize("how", ["wrong range", "no ranges"])
def test_object_that_begins_elsewhere_is_not_read(short, how):
    short.setattr(sources, "LIST_SECONDS", 60)
    with Store(how) as server:
        short.setenv("AWS_S3_ENDPOINT", server.url)
        (file,) = sources.find_files("s3://bucket/model/")

        assert b"".join(file.pieces()) == WEIGHTS
        found = only_problem_of(lambda: list(file.pieces(1000)))

    assert "where bytes from 1000 on count" in found.what


@pytest.mark.parametrize("address", ["s3://bucket/model/", "s3://bucket/model/*.safetensors", "s3://bucket/**"])
def test_list_of_objects_that_never_ends_is_one_error(short, address):
    short.setattr(object_store, "MAX_PAGES", 5)
    short.setattr(sources, "LIST_SECONDS", 60)
    with Store("endless list") as server:
        short.setenv("AWS_S3_ENDPOINT", server.url)

        assert "has no end after 5 pages" in only_problem_of(sources.find_files, address).what
        assert len(server.requests) <= 7


@pytest.mark.parametrize(
    "body",
    [
        "[" * 200_000,
        '{"runs": 5}',
        '{"runs": [{"created_at": "soon"}]}',
        '{"runs": [{"created_at": 7}]}',
        '{"total_size": "many"}',
        '{"total_size": ' + "9" * 5000 + "}",
    ],
    ids=lambda body: body[:40],
)
def test_answer_of_a_kfp_api_that_is_none_is_one_error(body):
    with KfpServer() as server:
        connection = connect(Access(host=server.url), RetryPolicy(attempt_seconds=5, pauses_seconds=()))
        server.faults = [KfpFault(status=200, body=body.encode())]

        assert "there is no KFP API" in only_problem_of(connection.ask, connection.client.list_runs).what


def test_judge_whose_error_is_nested_deeply_is_one_error(short):
    class Deep(HttpServer):
        def answer(self, request: Request) -> Answer:
            return Answer(status=400, body=b'{"error": ' + b'{"a":' * 900 + b"1" + b"}" * 901, headers={})

    with Deep() as server:
        assert "HTTP 400" in only_problem_of(ask_judge, server.url).what
