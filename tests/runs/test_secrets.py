"""Planted values for every secret: a whole run uses them, and nothing that it leaves behind holds one.

A local run has no registry, and its own `notify` cannot reach the planted webhook, so `notify` and a second `publish`
follow as KFP would start them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.grading.trial import labelled_answers
from pipeline.compile import COMPILED
from pipeline.placement import SECRET_VARIABLES
from tests import s3_server
from tests.certificates import write_certificate
from tests.compiled_step import run_compiled
from tests.hub_server import HubServer, Repository
from tests.judge_server import KEY_SENT, JudgeServer, Reply, refuses, says
from tests.registry_server import RegistryServer
from tests.run_records import hand_on
from tests.runs.test_run import DATA, GAPS, RETENTION
from tests.webhook_server import SECRET, WebhookServer

PLANTED = {
    "HF_TOKEN": "hf_plantedTokenOfTheHub",
    "HF_ENDPOINT": "https://planted-hub.example",
    "AWS_ACCESS_KEY_ID": "AKIAPLANTEDKEYID",
    "AWS_SECRET_ACCESS_KEY": "plantedSecretOfTheObjectStore",
    "AWS_S3_ENDPOINT": "https://planted-endpoint.example",
    "AWS_S3_BUCKET": "planted-bucket",
    "AWS_DEFAULT_REGION": "planted-region-1",
    "JUDGE_API_KEY": "sk-plantedKeyOfTheJudge",
    "JUDGE_HOSTS": "planted-judge.example",
    "WEBHOOK_URL": "https://planted-webhook.example/T0/B0/hook",
    "WEBHOOK_FORMAT": "slack",
}
"""By variable. Servers that choose their keys or their address themselves have others in a run."""
POD_TOKEN = "planted-token-of-the-pod"
NO_SECRETS = {
    "HF_ENDPOINT",
    "AWS_S3_ENDPOINT",
    "AWS_S3_BUCKET",
    "AWS_DEFAULT_REGION",
    "WEBHOOK_FORMAT",
    "JUDGE_HOSTS",
}  # come in a secret, because they belong to what is one
NAME = "org/tiny"
# A pod's token lies in a file that only a pod has: this takes its place when a step's Python starts.
TOKEN_ELSEWHERE = """
import pathlib
from components.publish import core
core.TOKEN_FILE = pathlib.Path({path!r})
"""


def test_every_variable_of_a_secret_is_planted():
    assert set(PLANTED) == {name for names in SECRET_VARIABLES.values() for name in names}


def leaks(text: str, planted: dict[str, str]) -> list[str]:
    """The planted secrets that a text holds."""
    return [name for name, value in planted.items() if name not in NO_SECRETS and value in text]


def leaks_of(folder: Path, planted: dict[str, str]) -> dict[str, list[str]]:
    """The same for every file and every name below a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert len(paths) > 20
    found = {str(path): leaks(str(path) + path.read_bytes().decode("utf-8", "replace"), planted) for path in paths}
    return {path: names for path, names in found.items() if names}


def run(
    folder: Path, hub: HubServer, judge: JudgeServer, store: dict[str, str], **more: str
) -> subprocess.CompletedProcess[str]:
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
    } | more
    command = [sys.executable, "-m", "pipeline", "run", *(f"--{name}={value}" for name, value in arguments.items())]
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf")}
    environment = {**os.environ, **PLANTED, **store, **own}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def tell(folder: Path, state: str, webhook: WebhookServer) -> subprocess.CompletedProcess[str]:
    """The exit handler of a run on the cluster."""
    status = {
        "state": state,
        "pipelineJobResourceName": "osft-x7k2p",
        "pipelineTaskName": "exit-handler-1",
        "error": {},
    }
    return run_compiled(
        "notify",
        folder / "notify",
        {"status": status, "runs_page": "https://dashboard.example/runs"},
        {**records(folder), "WEBHOOK_URL": webhook.url},
    )


def publish(folder: Path, registry: RegistryServer, certificate: Path, token: Path) -> subprocess.CompletedProcess[str]:
    """The last step of a run whose cluster has a model registry, after one that had none."""
    workspace, start = folder / "workspace", folder.parent / f"{folder.name}-python"
    (found,) = workspace.glob("kfp/*/store/**/plan-training/*/plan")
    plan = json.loads(found.read_text(encoding="utf-8"))
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    start.mkdir()
    (start / "sitecustomize.py").write_text(TOKEN_ELSEWHERE.format(path=str(token)), encoding="utf-8")
    return run_compiled(
        "publish",
        folder / "publish",
        {"workspace": str(workspace), "claim": "osft-workspace", "registry": registry.url},
        {**records(folder), "SSL_CERT_FILE": str(certificate), "PYTHONPATH": f"{start}:{COMPILED.parents[2]}"},
        adapted=hand_on(workspace / "adapted" / plan["run_key"], workspace, "training_report.json"),
        plan=folder / "plan.json",
    )


def records(folder: Path) -> dict[str, str]:
    """Where the newest run's steps have their records."""
    runs = folder / "workspace" / "pipeline-runs"
    newest = max((path.name for path in runs.glob("*")), default="none")
    return {"OSFT_STEP_RECORDS": str(runs), "KFP_RUN_ID": newest}


@pytest.fixture(scope="module")
def repository(tiny_model):
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
    return Repository(files=files, token=PLANTED["HF_TOKEN"])


def test_whole_run_that_uses_the_secrets_leaves_none_behind(tmp_path, tmp_path_factory, repository):
    labels = {(row["question"], row["answer"]): row["right"] == "yes" for row in labelled_answers()}

    def talkative(case: dict[str, str]) -> list[Reply]:
        right = labels.get((case["question"], case["answer"]), True)
        return [says("right" if right else "wrong", f"You sent me {KEY_SENT}.")]

    cluster = tmp_path_factory.mktemp("cluster")  # what a pod has, and no run writes
    certificate, token = write_certificate(cluster / "server.pem"), cluster / "token"
    token.write_text(POD_TOKEN, encoding="utf-8")
    with (
        HubServer({NAME: repository}) as hub,
        JudgeServer(talkative) as judge,
        s3_server.running() as store,
        RegistryServer(certificate=certificate) as registry,
        WebhookServer() as webhook,
    ):
        planted = PLANTED | store.environment | {"WEBHOOK_URL": SECRET, "the pod's token": POD_TOKEN}
        store.client.create_bucket(Bucket="planted-bucket")
        store.client.put_object(Bucket="planted-bucket", Key="qa.csv", Body=DATA.encode())
        done = run(tmp_path, hub, judge, store.environment, data="s3:///qa.csv")
        assert done.returncode == 0, done.stdout + done.stderr
        published = publish(tmp_path, registry, certificate, token)
        told = tell(tmp_path, "COMPLETE", webhook)

    assert published.returncode == 0, published.stdout + published.stderr
    assert f"Bearer {PLANTED['HF_TOKEN']}" in {request.authorization for request in hub.requests}
    assert PLANTED["JUDGE_API_KEY"] in {request.key for request in judge.asked}
    assert registry.authorizations == {f"Bearer {POD_TOKEN}"}
    assert registry.artifacts
    assert [message["text"].split(":")[0] for message in webhook.messages] == ["OSFT run succeeded"], told.stdout
    sent = json.dumps([registry.models, registry.versions, registry.artifacts, webhook.messages])
    said = [part for one in (done, published, told) for part in (one.stdout, one.stderr)]
    assert leaks("".join([sent, *said]), planted) == []
    assert leaks_of(tmp_path, planted) == {}


def test_run_that_fails_over_them_leaves_none_behind(tmp_path, repository):
    echoing = refuses(401, f"Incorrect API key provided: {KEY_SENT}")
    closed = Repository(files=repository.files, token="another", revisions=("main",))
    planted = PLANTED | {"WEBHOOK_URL": SECRET}
    with (
        HubServer({NAME: repository, "org/closed": closed}) as hub,
        JudgeServer(lambda _: [echoing]) as judge,
        WebhookServer() as webhook,
    ):
        refused = run(tmp_path, hub, judge, {})
        told = tell(tmp_path, "RUNNING", webhook)
        unreadable = run(tmp_path, hub, judge, {}, model="org/closed")
        unreachable = run(tmp_path, hub, judge, {}, data="s3://bucket/qa.csv")

    for done in (refused, unreadable, unreachable):
        assert done.returncode == 1, done.stdout + done.stderr
        assert leaks(done.stdout + done.stderr, planted) == []
        assert "Traceback" not in done.stderr
    assert [message["text"] for message in webhook.messages] == ["OSFT run failed: evaluate failed"], told.stdout
    assert leaks(json.dumps(webhook.messages) + told.stdout + told.stderr, planted) == []
    assert leaks_of(tmp_path, planted) == {}


def test_compiled_pipeline_names_secrets_and_holds_none():
    text = COMPILED.read_text(encoding="utf-8")

    assert leaks(text, PLANTED) == []
    for name in PLANTED:
        assert f"envVar: {name}" in text


def test_the_search_finds_a_secret_in_a_file_and_in_its_name(tmp_path):
    for number in range(20):
        (tmp_path / f"{number}.txt").touch()
    (tmp_path / "a.log").write_text("token=hf_plantedTokenOfTheHub", encoding="utf-8")
    (tmp_path / "AKIAPLANTEDKEYID.bin").write_bytes(b"\xff")

    assert sorted(names for names in leaks_of(tmp_path, PLANTED).values()) == [["AWS_ACCESS_KEY_ID"], ["HF_TOKEN"]]
