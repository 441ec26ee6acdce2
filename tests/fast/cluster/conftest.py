"""The commands for a cluster, as a user calls them: through the real kfp.Client, against a KFP API of our own."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import main as cli
from pipeline.cluster import connection as connecting
from pipeline.cluster import runs, schedules
from pipeline.cluster.access import Access
from pipeline.cluster.compiled_file import read_pipeline
from pipeline.cluster.connection import RetryPolicy, connect
from tests.cluster_file import compiled_for_a_cluster
from tests.kfp_server import KfpServer

TOKEN = "sha256~a-token-that-nobody-may-see"
PARAMETERS = ["--param", "data=/mnt/osft/qa.csv", "--param", "questions=/mnt/osft/gaps.csv"]
SUNDAYS = ["--cron", "0 0 2 * * 0"]
MONDAYS = ["--cron", "0 0 2 * * 1"]
PATIENT = RetryPolicy(pauses_seconds=())
QUICK = RetryPolicy(connect_seconds=0.5, attempt_seconds=1.5, pauses_seconds=(0.01, 0.02))

Osft = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server():
    with KfpServer(token=TOKEN) as running:
        yield running


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """The pipeline of a cluster that names its images and no dashboard."""
    return compiled_for_a_cluster(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="session")
def pipeline(compiled):
    return read_pipeline(compiled)


@pytest.fixture
def other_pipeline(compiled, tmp_path):
    """The pipeline with other content."""
    return changed(compiled, tmp_path / "other.yaml", 0, [], "sdkVersion", "kfp-2.16.2")


def changed(compiled: Path, target: Path, document: int, path: list[str], key: str, value: Any) -> Path:
    """Write the pipeline with one key set."""
    documents = list(yaml.safe_load_all(compiled.read_text(encoding="utf-8")))
    place = documents[document]
    for name in path:
        place = place[name]
    place[key] = value
    target.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return target


@pytest.fixture
def osft(server, compiled, monkeypatch, capsys, tmp_path):
    """Runs the program in this process, with that pipeline where none is named; returns its exit code and what it
    wrote."""
    for name in ("KUBECONFIG", "KF_PIPELINES_SA_TOKEN_PATH", "OSFT_KFP_CA", "OSFT_KFP_DASHBOARD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OSFT_KFP_HOST", server.url)
    monkeypatch.setenv("OSFT_KFP_TOKEN", TOKEN)
    monkeypatch.setattr(schedules, "SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(runs, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(connecting, "RetryPolicy", lambda: QUICK)

    def call(command: str, *arguments: str | Path) -> tuple[int, str, str]:
        if command == "upload" and not any(isinstance(argument, Path) for argument in arguments):
            arguments = (*arguments, compiled)
        if command in ("submit", "schedule") and "--pipeline" not in arguments:
            arguments = (*arguments, "--pipeline", compiled)
        monkeypatch.setattr(sys, "argv", ["osft-pipeline", command, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        written = capsys.readouterr()
        assert TOKEN not in written.out + written.err
        return int(end.value.code or 0), written.out, written.err

    return call


@pytest.fixture
def connection(server):
    return connect(Access(host=server.url, token=TOKEN), QUICK)
