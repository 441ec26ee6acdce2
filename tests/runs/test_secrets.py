"""Planted values for every secret: a whole run uses them, and nothing that it leaves behind holds one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.compile import COMPILED
from pipeline.placement import SECRET_VARIABLES
from tests.hub_server import HubServer, Repository
from tests.judge_server import KEY_SENT, JudgeServer, Reply, refuses, says
from tests.runs.test_run import DATA, GAPS, RETENTION

PLANTED = {
    "HF_TOKEN": "hf_plantedTokenOfTheHub",
    "HF_ENDPOINT": "https://planted-hub.example",
    "AWS_ACCESS_KEY_ID": "AKIAPLANTEDKEYID",
    "AWS_SECRET_ACCESS_KEY": "plantedSecretOfTheObjectStore",
    "AWS_S3_ENDPOINT": "https://planted-endpoint.example",
    "AWS_S3_BUCKET": "planted-bucket",
    "AWS_DEFAULT_REGION": "planted-region-1",
    "JUDGE_API_KEY": "sk-plantedKeyOfTheJudge",
    "WEBHOOK_URL": "https://planted-webhook.example/T0/B0/hook",
    "WEBHOOK_FORMAT": "slack",
}
NO_SECRETS = {
    "HF_ENDPOINT",
    "AWS_S3_ENDPOINT",
    "AWS_S3_BUCKET",
    "AWS_DEFAULT_REGION",
    "WEBHOOK_FORMAT",
}  # come in a secret, because they belong to what is one
NAME = "org/tiny"


def test_every_variable_of_a_secret_is_planted() -> None:
    assert set(PLANTED) == {name for names in SECRET_VARIABLES.values() for name in names}


def leaks(text: str) -> list[str]:
    """The planted secrets that a text holds."""
    return [name for name, value in PLANTED.items() if name not in NO_SECRETS and value in text]


def leaks_of(folder: Path) -> dict[str, list[str]]:
    """The same for every file and every name below a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert len(paths) > 20
    found = {str(path): leaks(str(path) + path.read_bytes().decode("utf-8", "replace")) for path in paths}
    return {path: names for path, names in found.items() if names}


def run(folder: Path, hub: HubServer, judge: JudgeServer, **more: str) -> subprocess.CompletedProcess[str]:
    for name, text in (("qa.csv", DATA), ("gaps.csv", GAPS), ("retention.csv", RETENTION)):
        (folder / name).write_text(text, encoding="utf-8")
    arguments = {
        "data": str(folder / "qa.csv"),
        "questions": str(folder / "gaps.csv"),
        "retention-questions": str(folder / "retention.csv"),
        "model": NAME,
        "workspace": str(folder / "workspace"),
        "num-epochs": "1",
        "judge-url": judge.url,
        "judge-model": "judge",
        "max-answer-tokens": "8",
        "closed-min": "0",
        "regressed-max": "2",
        "retention-drop-max": "100",
    } | more
    command = [sys.executable, "-m", "pipeline", "run", *(f"--{name}={value}" for name, value in arguments.items())]
    environment = {**os.environ, **PLANTED, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def repository(tiny_model: Path) -> Repository:
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
    return Repository(files=files, token=PLANTED["HF_TOKEN"])


def test_whole_run_that_uses_the_secrets_leaves_none_behind(tmp_path: Path, repository: Repository) -> None:
    def talkative(case: dict[str, str]) -> list[Reply]:
        return [says("wrong" if case["answer"] == "It is 3." else "right", f"You sent me {KEY_SENT}.")]

    with HubServer({NAME: repository}) as hub, JudgeServer(talkative) as judge:
        done = run(tmp_path, hub, judge)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Bearer {PLANTED['HF_TOKEN']}" in {request.authorization for request in hub.requests}
    assert PLANTED["JUDGE_API_KEY"] in {request.key for request in judge.requests}
    assert list(tmp_path.glob("workspace/runs/*/published.json"))
    assert leaks(done.stdout + done.stderr) == []
    assert leaks_of(tmp_path) == {}


def test_run_that_fails_over_them_leaves_none_behind(tmp_path: Path, repository: Repository) -> None:
    echoing = refuses(401, f"Incorrect API key provided: {KEY_SENT}")
    closed = Repository(files=repository.files, token="another", revisions=("main",))
    with HubServer({NAME: repository, "org/closed": closed}) as hub, JudgeServer(lambda _: [echoing]) as judge:
        refused = run(tmp_path, hub, judge)
        unreadable = run(tmp_path, hub, judge, model="org/closed")
        unreachable = run(tmp_path, hub, judge, data="s3://bucket/qa.csv")

    for done in (refused, unreadable, unreachable):
        assert done.returncode == 1, done.stdout + done.stderr
        assert leaks(done.stdout + done.stderr) == []
        assert "Traceback" not in done.stderr
    assert leaks_of(tmp_path) == {}


def test_compiled_pipeline_names_secrets_and_holds_none() -> None:
    text = COMPILED.read_text(encoding="utf-8")

    assert leaks(text) == []
    for name in PLANTED:
        assert f"envVar: {name}" in text


def test_the_search_finds_a_secret_in_a_file_and_in_its_name(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.txt").touch()
    (tmp_path / "a.log").write_text("token=hf_plantedTokenOfTheHub", encoding="utf-8")
    (tmp_path / "AKIAPLANTEDKEYID.bin").write_bytes(b"\xff")

    assert sorted(names for names in leaks_of(tmp_path).values()) == [["AWS_ACCESS_KEY_ID"], ["HF_TOKEN"]]
