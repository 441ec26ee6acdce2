"""The commands for a cluster, as a user calls them: through the real kfp.Client, against a KFP API of our own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.shared.problems import Problems
from pipeline.cli import main as cli
from pipeline.cluster import runs, schedules
from pipeline.cluster.access import Access, find_access
from pipeline.cluster.compiled_file import PIPELINE, CompiledPipeline, read_pipeline
from pipeline.cluster.connection import ApiError, Connection, RetryPolicy, connect
from pipeline.cluster.parameters import read_parameters
from tests.certificates import write_certificate
from tests.cluster_file import compiled_for_a_cluster
from tests.fast.conftest import only_problem_of
from tests.kfp_server import Fault, KfpServer

TOKEN = "sha256~a-token-that-nobody-may-see"
PARAMETERS = ["--param", "data=/mnt/osft/qa.csv", "--param", "questions=/mnt/osft/gaps.csv"]
SUNDAYS = ["--cron", "0 0 2 * * 0"]
MONDAYS = ["--cron", "0 0 2 * * 1"]
LOGIN_PAGE = b"<!DOCTYPE html><html><title>Log in</title></html>"
IMPATIENT = RetryPolicy(connect_seconds=0.5, read_seconds=0.5, pauses_seconds=(0.01, 0.02))

Osft = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server() -> Iterator[KfpServer]:
    with KfpServer(token=TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline of a cluster that names its images and no dashboard."""
    return compiled_for_a_cluster(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="module")
def pipeline(compiled: Path) -> CompiledPipeline:
    return read_pipeline(compiled)


@pytest.fixture
def osft(
    server: KfpServer,
    compiled: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Osft:
    """Runs the program in this process, with that pipeline where none is named; returns its exit code and what it
    wrote."""
    for name in ("KUBECONFIG", "KF_PIPELINES_SA_TOKEN_PATH", "OSFT_KFP_CA", "OSFT_KFP_DASHBOARD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OSFT_KFP_HOST", server.url)
    monkeypatch.setenv("OSFT_KFP_TOKEN", TOKEN)
    monkeypatch.setattr(schedules, "SETTLE_SECONDS", 0.5)

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
def connection(server: KfpServer) -> Connection:
    return connect(Access(host=server.url, token=TOKEN), IMPATIENT)


def other_pipeline(compiled: Path, tmp_path: Path, **changes: Any) -> Path:
    """The pipeline with other content."""
    documents = list(yaml.safe_load_all(compiled.read_text(encoding="utf-8")))
    documents[0] |= changes
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return path


def steps(**states: str) -> dict[str, Any]:
    """What a run reports of its steps."""
    tasks = [
        {"task_id": f"id-{name}", "display_name": name.replace("_", "-"), "state": state}
        for name, state in states.items()
    ]
    return {"run_details": {"task_details": tasks}}


# upload


def test_upload_registers_once_for_the_same_content(
    server: KfpServer, osft: Osft, compiled: Path, tmp_path: Path
) -> None:
    same = tmp_path / "same.yaml"
    same.write_text("# moved about\n" + compiled.read_text(encoding="utf-8"), encoding="utf-8")

    results = [osft("upload"), osft("upload"), osft("upload", same)]

    assert [code for code, _, _ in results] == [0, 0, 0]
    assert "is registered" in results[0][1]
    assert all("is there already" in out for _, out, _ in results[1:])
    assert len(server.pipelines) == len(server.versions) == 1


def test_upload_of_other_content_makes_another_version(
    server: KfpServer, osft: Osft, compiled: Path, tmp_path: Path
) -> None:
    osft("upload")
    code, _, _ = osft("upload", other_pipeline(compiled, tmp_path, sdkVersion="kfp-2.16.2"))
    osft("upload")  # the first content again

    names = [version["name"] for version in server.versions.values()]
    assert code == 0
    assert len(server.pipelines) == 1
    assert len(names) == len(set(names)) == 2
    assert all(re.fullmatch(r"osft-[0-9a-f]{12}", name) for name in names)


@pytest.mark.parametrize(
    "command", [["upload"], ["submit", *PARAMETERS], ["schedule", "nightly", *SUNDAYS, *PARAMETERS]]
)
def test_a_dry_run_changes_nothing(server: KfpServer, osft: Osft, command: list[str]) -> None:
    code, out, _ = osft(*command, "--dry-run")

    assert code == 0
    assert "would be" in out
    assert server.requests
    assert not server.changes


@pytest.mark.parametrize(
    ("document", "path", "key"),
    [
        (0, [], "newField"),
        (1, ["platforms", "kubernetes", "deploymentSpec", "executors", "exec-notify"], "noSuchField"),
        (1, ["platforms", "kubernetes"], "pipelineConfig"),
    ],
)
def test_a_pipeline_that_the_api_does_not_know_is_refused(
    server: KfpServer, osft: Osft, compiled: Path, tmp_path: Path, document: int, path: list[str], key: str
) -> None:
    documents = list(yaml.safe_load_all(compiled.read_text(encoding="utf-8")))
    place = documents[document]
    for name in path:
        place = place[name]
    place[key] = {"resourceTtlOnCompletion": 60}
    file = tmp_path / "other.yaml"
    file.write_text(yaml.safe_dump_all(documents), encoding="utf-8")

    code, _, err = osft("upload", file)

    assert code == 1
    assert "the KFP API refuses (400)" in err
    assert key in err
    assert not server.versions


@pytest.mark.parametrize(
    "command", [["upload"], ["submit", *PARAMETERS], ["schedule", "nightly", *SUNDAYS, *PARAMETERS]]
)
@pytest.mark.parametrize("image", ["", "osft-pipeline/cpu:0.1.0", "registry.invalid:5000/cpu"])
def test_placeholders_for_images_are_refused_before_anything_is_sent(
    server: KfpServer, osft: Osft, compiled: Path, tmp_path: Path, command: list[str], image: str
) -> None:
    """The project's own pipeline has nothing else."""
    file = PIPELINE
    if image:
        file = tmp_path / "pipeline.yaml"
        text = re.sub(r"image: \S+/cpu\S+", f"image: {image}", compiled.read_text(encoding="utf-8"), count=1)
        file.write_text(text, encoding="utf-8")

    code, _, err = osft(*command, *([file] if command[0] == "upload" else ["--pipeline", file, "--param", "seed=x"]))

    assert code == 1
    assert f"images of the pipeline are placeholders: {image or 'registry.invalid/osft-pipeline/cpu:0.1.0, '}" in err
    assert "osft-pipeline compile --cluster my-cluster.toml" in err
    assert (command[0] == "upload") != ("seed is 'x'" in err)
    assert not server.requests


def test_a_schedule_is_not_replaced_by_one_with_placeholders(server: KfpServer, osft: Osft) -> None:
    osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)
    before = dict(server.schedules)

    code, _, _ = osft("schedule", "nightly", *SUNDAYS, *PARAMETERS, "--pipeline", PIPELINE)

    assert code == 1
    assert server.schedules == before


def test_without_its_kubernetes_settings_a_file_is_no_compiled_pipeline(
    osft: Osft, compiled: Path, tmp_path: Path
) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(compiled.read_text(encoding="utf-8").split("\n---\n")[0], encoding="utf-8")

    code, _, err = osft("upload", file)

    assert code == 1
    assert "this is no compiled pipeline" in err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        ("a: [", "no YAML"),
        ("a: 1", "no compiled pipeline"),
        ("", "no compiled pipeline"),
        ("- 1", "no compiled pipeline"),
    ],
)
def test_a_file_that_is_no_pipeline(osft: Osft, tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "pipeline.yaml"
    if content is not None:
        path.write_text(content, encoding="utf-8")

    code, _, err = osft("upload", path)

    assert code == 1
    assert said in err


# submit


def test_submit_starts_a_run_with_typed_parameters(server: KfpServer, osft: Osft) -> None:
    more = [
        "num_epochs=3",
        "learning_rate=1e-5",
        'training_options={"warmup_steps": 10}',
        "system_prompt=a=b",
        "seed=7",
    ]

    code, _, _ = osft("submit", *PARAMETERS, *(part for text in more for part in ("--param", text)))

    (run,) = server.runs.values()
    assert code == 0
    assert run["runtime_config"]["parameters"] == {
        "data": "/mnt/osft/qa.csv",
        "questions": "/mnt/osft/gaps.csv",
        "num_epochs": 3,
        "learning_rate": 1e-5,
        "training_options": {"warmup_steps": 10},
        "system_prompt": "a=b",
        "seed": 7,
    }
    assert run["pipeline_version_reference"]["pipeline_version_id"] in server.versions


@pytest.mark.parametrize("source", ["pipeline", "option", "variable"])
def test_links_lead_to_the_dashboard_that_is_named(
    server: KfpServer, osft: Osft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    page = "https://ai.example/develop-train/pipelines/runs/team"
    named = ["--pipeline", str(compiled_for_a_cluster(tmp_path, f'notify.runs_page = "{page}/runs"\n'))]
    if source == "option":
        page = "https://other.example/runs/ours"
        named += ["--dashboard", f"{page}/runs/"]
    if source == "variable":
        page = "https://other.example/runs/ours"
        monkeypatch.setenv("OSFT_KFP_DASHBOARD", f"{page}/runs")

    _, submitted, _ = osft("submit", *PARAMETERS, *named)
    _, scheduled, _ = osft("schedule", "nightly", *SUNDAYS, *PARAMETERS, *named)
    _, shown, _ = osft("status", *named)

    run, schedule = f"{page}/runs/{next(iter(server.runs))}", f"{page}/schedules/{next(iter(server.schedules))}"
    assert run in submitted
    assert schedule in scheduled
    assert run in shown
    assert schedule in shown
    assert "OSFT_KFP_DASHBOARD" not in submitted + scheduled + shown


def test_without_a_dashboard_ids_are_shown_and_what_to_set(server: KfpServer, osft: Osft) -> None:
    _, submitted, _ = osft("submit", *PARAMETERS)
    _, scheduled, _ = osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)
    _, shown, _ = osft("status")

    run, schedule = next(iter(server.runs)), next(iter(server.schedules))
    assert re.search(rf"^id +{run}$", submitted, re.MULTILINE)
    assert re.search(rf"^id +{schedule}$", scheduled, re.MULTILINE)
    assert run in shown
    assert schedule in shown
    for out in (submitted, scheduled, shown):
        assert "notify.runs_page in the cluster file and --pipeline, or OSFT_KFP_DASHBOARD" in out
        assert "://" not in out


def test_a_page_that_is_none_of_the_dashboards_is_refused(server: KfpServer, osft: Osft) -> None:
    code, _, err = osft("submit", *PARAMETERS, "--dashboard", "https://ai.example/develop-train/pipelines/runs/team")
    _, _, secret = osft("status", "--dashboard", "https://user:secret@ai.example/runs")

    assert code == 1
    assert "https://DASHBOARD/develop-train/pipelines/runs/PROJECT/runs" in err
    assert "secret@" not in secret
    assert not server.requests


def test_all_mistakes_are_said_at_once_and_nothing_is_sent(server: KfpServer, osft: Osft, tmp_path: Path) -> None:
    file = tmp_path / "parameters.yaml"
    file.write_text("revision: 1.0\nnum_epoch: 3\n", encoding="utf-8")
    mistakes = [
        "questions=",
        "max_seq_len=many",
        "seed=-1",
        "unfreeze_rank_ratio=1.5",
        'training_options={"warmup_stps": 1}',
        "retention_drop_max=300",
        "evaluation_options=[1]",
        "model",
    ]

    code, _, err = osft("submit", "--params", file, *(part for text in mistakes for part in ("--param", text)))

    assert code == 1
    assert "11 problems" in err
    for said in (
        "unknown parameter 'num_epoch' (did you mean num_epochs?)",
        "revision is '1.0'",
        "remedy: put it in quotes",
        "data is missing",
        "questions is ''",
        "max_seq_len is 'many'",
        "seed is '-1'",
        "unfreeze_rank_ratio is '1.5'",
        "did you mean warmup_steps?",
        "retention_drop_max is '300.0'",
        "evaluation_options is '[1]'",
        "--param 'model' has no value",
    ):
        assert said in err
    assert not server.requests


@pytest.mark.parametrize(
    ("yaml_text", "flags", "expected"),
    [
        ("num_epochs: 3\n", [], {"num_epochs": 3}),
        ("num_epochs: 3.0\n", [], {"num_epochs": 3}),
        ("num_epochs: '3'\n", [], {"num_epochs": 3}),
        ("num_epochs: 3\n", ["num_epochs=4"], {"num_epochs": 4}),
        ("learning_rate: 5e-6\n", [], {"learning_rate": 5e-6}),  # a text to YAML
        ("unfreeze_rank_ratio: 1\n", [], {"unfreeze_rank_ratio": 1.0}),
        ("revision: '1.0'\n", [], {"revision": "1.0"}),
        ("training_options:\n  warmup_steps: 2\n", [], {"training_options": {"warmup_steps": 2}}),
        ("", ["seed=+7"], {"seed": 7}),
    ],
)
def test_parameters_from_a_file_and_from_flags(
    pipeline: CompiledPipeline, tmp_path: Path, yaml_text: str, flags: list[str], expected: dict[str, Any]
) -> None:
    file = tmp_path / "parameters.yaml"
    file.write_text("data: /a.csv\nquestions: /b.csv\n" + yaml_text, encoding="utf-8")

    read = read_parameters(pipeline, flags, file)

    assert read == {"data": "/a.csv", "questions": "/b.csv", **expected}
    assert [type(read[name]) for name in expected] == [type(value) for value in expected.values()]


@pytest.mark.parametrize(
    ("yaml_text", "said"),
    [
        ("num_epochs: true", "num_epochs is 'true'"),
        ("num_epochs: 2.5", "num_epochs is '2.5'"),
        ("num_epochs: .inf", "a whole number"),
        ("learning_rate: .nan", "a number"),
        ("learning_rate: 1_0", "a number above 0 and below 1"),
        ("model:", "model is 'null'"),
        ("model: 2026-11-22", "model is '\"2026-11-22\"'"),
        ("training_options: '{}'", "names with values"),
        ("training_options: {warmup_steps: -1}", "warmup_steps is '-1'"),
        ("data: c.csv", "given twice: data"),
        ("1: 2", "no file of parameters"),
        ("max_seq_len: 4096", "max_tokens_per_gpu must be at least max_seq_len"),
        ("judge_url: https://judge.example/v1", "judge_url and judge_model are given both or not at all"),
    ],
)
def test_a_wrong_value_in_the_file(pipeline: CompiledPipeline, tmp_path: Path, yaml_text: str, said: str) -> None:
    file = tmp_path / "parameters.yaml"
    file.write_text(f"data: /a.csv\nquestions: /b.csv\n{yaml_text}\n", encoding="utf-8")

    with pytest.raises(Problems, match=re.escape(said)):
        read_parameters(pipeline, [], file)


GOOD_INPUTS = {
    "data": [
        "/mnt/osft/qa.csv",
        "/mnt/osft/*.csv",
        "s3://bucket/qa",
        "s3:///qa.csv",
        "file:///a b.csv",
        "HTTPS://a.b/c",
    ],
    "questions": ["/mnt/osft/what?.csv", "s3://bucket/which?.csv"],
    "retention_questions": ["", "https://host.example/general.csv"],
    "model": ["org/name", "/mnt/osft/uploads/m", "s3://bucket/m"],
    "revision": ["main", "refs/pr/1", "0" * 40],
    "workspace": ["/mnt/osft/team-a"],
    "publish_as": ["", "granite-3.2"],
    "training_options": ['{"warmup_steps": 3}'],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD_INPUTS.items() for value in values])
def test_what_a_pod_can_use_is_taken(pipeline: CompiledPipeline, name: str, value: str) -> None:
    given = {"data": "/a", "questions": "/b", name: value}

    assert name in read_parameters(pipeline, [f"{name}={value}" for name, value in given.items()], None)


BAD_INPUTS = {
    "data": ["a.csv", "./a.csv", "~/a.csv", "ftp://host/a", "file://a.csv", "s3://", " https://host/a"],
    "questions": ["b.csv"],
    "retention_questions": ["c.csv"],
    "model": ["", "name", "./name", "../name", "~/name", "a/b/c", "https://hub.example/org/name"],
    "revision": ["", " ", "a b"],
    "workspace": ["", "relative", "./relative", "s3://bucket"],
    "publish_as": ["a b", "-a", "a/b"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_INPUTS.items() for value in values])
def test_what_no_pod_can_use_is_refused(pipeline: CompiledPipeline, name: str, value: str) -> None:
    given = {"data": "/a", "questions": "/b", name: value}

    found = only_problem_of(read_parameters, pipeline, [f"{name}={value}" for name, value in given.items()], None)

    assert found.where == f"parameter {name}"


@pytest.mark.parametrize("name", ["data", "questions", "retention_questions", "model"])
@pytest.mark.parametrize(
    "address",
    [
        "https://u:hunter2@host.example/qa.csv",
        "https://hunter2@host.example/qa.csv",
        "https://host.example/qa.csv?X-Amz-Signature=hunter2",
        "https://host.example/qa.csv#hunter2",
        " https://host.example/qa.csv?X-Amz-Signature=hunter2",
        "s3://key:hunter2@bucket/qa.csv",
        "S3://key:hunter2@bucket/qa.csv",
        "u:hunter2@host.example/qa.csv?sig=1",
    ],
)
def test_an_address_with_a_secret_is_refused_and_not_repeated(
    server: KfpServer, osft: Osft, name: str, address: str
) -> None:
    given = {"data": "/a", "questions": "/b", name: address}

    code, out, err = osft("submit", *(part for item in given.items() for part in ("--param", "=".join(item))))

    assert code == 1
    assert f"parameter {name}" in err
    assert "hunter2" not in out + err
    assert not server.requests


def test_an_address_in_a_place_where_none_belongs_is_not_repeated(osft: Osft, tmp_path: Path) -> None:
    file = tmp_path / "parameters.yaml"
    file.write_text('model: ["https://u:hunter2@host.example/"]\n', encoding="utf-8")
    mistakes = ["https://u:hunter2@host.example/", "https://host.example/?X-Amz-Signature=hunter2"]

    _, out, err = osft(
        "submit", *PARAMETERS, "--params", file, *(part for text in mistakes for part in ("--param", text))
    )

    assert "3 problems" in err
    assert "hunter2" not in out + err


@pytest.mark.parametrize(
    ("option", "parameter"),
    [
        ('training_options={"num_epochs": 3, "warmup_steps": 1}', "num_epochs"),
        ('evaluation_options={"closed_min": 3}', "closed_min"),
    ],
)
def test_an_option_that_is_a_parameter_is_refused_among_the_further_ones(
    pipeline: CompiledPipeline, option: str, parameter: str
) -> None:
    found = only_problem_of(read_parameters, pipeline, ["data=/a", "questions=/b", option], None)

    assert found.remedy == f"set the parameter {parameter}"


def test_a_lost_answer_starts_nothing_twice(server: KfpServer, osft: Osft) -> None:
    for path in ("/pipelines", "/upload_version", "/runs", "/recurringruns"):
        server.faults.append(Fault(method="POST", path=path, times=1, status=504, after_deed=True))

    submitted, _, _ = osft("submit", *PARAMETERS)
    scheduled, _, _ = osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)

    assert (submitted, scheduled) == (0, 0)
    assert all(fault.times == 0 for fault in server.faults)
    assert [len(items) for items in (server.pipelines, server.versions, server.runs, server.schedules)] == [1] * 4


# submit --wait


@pytest.mark.parametrize(("end", "expected"), [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 1), ("SKIPPED", 1)])
def test_wait_shows_each_change_once_and_tells_by_the_exit_code(
    server: KfpServer, osft: Osft, monkeypatch: pytest.MonkeyPatch, end: str, expected: int
) -> None:
    monkeypatch.setattr(runs, "POLL_SECONDS", 0.01)
    server.story = [
        {"state": "PENDING"},
        {"state": "RUNNING"} | steps(ingest_sdg="RUNNING", ingest_sdg_driver="SUCCEEDED"),
        {"state": "RUNNING"} | steps(ingest_sdg="RUNNING"),
        {"state": "RUNNING"} | steps(ingest_sdg="SUCCEEDED", train_osft="RUNNING"),
        {"state": end} | steps(ingest_sdg="SUCCEEDED", train_osft=end),
        {"state": "SUCCEEDED"},  # nobody looks any more
    ]

    code, out, _ = osft("submit", *PARAMETERS, "--wait")

    changes = [" ".join(line.split()[1:]) for line in out.splitlines() if " | " in line]
    assert code == expected
    assert changes == [
        "run | PENDING",
        "ingest-sdg | RUNNING",
        "run | RUNNING",
        "ingest-sdg | SUCCEEDED",
        "train-osft | RUNNING",
        f"train-osft | {end}",
        f"run | {end}",
    ]


def test_wait_survives_a_connection_that_goes_and_comes(
    server: KfpServer, connection: Connection, pipeline: CompiledPipeline
) -> None:
    submission = runs.submit(connection, pipeline, {"data": "a", "questions": "b"}, False)
    assert submission.run is not None
    server.story = [{"state": "RUNNING"}, {"state": "SUCCEEDED"}]
    changes = []

    for change in runs.follow(connection, submission.run.run_id, pipeline.steps, 0.01, 60.0):
        changes.append((change.name, change.state))
        if change.state == "RUNNING":
            server.faults = [Fault(path="/runs", breaks_off=True, times=4), Fault(path="/runs", status=502, times=4)]

    assert changes == [("run", "RUNNING"), ("connection", "lost"), ("connection", "back"), ("run", "SUCCEEDED")]


def test_wait_gives_up_a_connection_that_stays_away(server: KfpServer, connection: Connection) -> None:
    server.faults = [Fault(path="/runs", breaks_off=True)]

    with pytest.raises(ApiError, match="the connection broke"):
        list(runs.follow(connection, "run-1", (), 0.01, 0.2))


def test_texts_of_the_cluster_do_not_act_on_the_terminal(server: KfpServer, osft: Osft) -> None:
    failed = {"task_id": "1", "display_name": "ingest-sdg", "state": "FAILED", "error": {"message": "a\x1b[2Jb\rc"}}
    server.story = [{"state": "FAILED", "display_name": "x\x1b[1m\n", "run_details": {"task_details": [failed]}}]

    _, waited, _ = osft("submit", *PARAMETERS, "--wait")
    _, shown, _ = osft("status")
    server.faults = [Fault(status=400, path="/pipelines", body=json.dumps({"message": "\x07\x1b[2J" + TOKEN}).encode())]
    _, _, refused = osft("upload")

    assert "FAILED: a [2Jb c" in waited
    assert "x [1m" in shown
    assert "(the token)" in refused
    assert not {"\x1b", "\x07", "\r"} & set(waited + shown + refused)


# schedule, unschedule, status


def test_schedule_says_what_it_means(server: KfpServer, osft: Osft) -> None:
    code, out, _ = osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)

    (made,) = server.schedules.values()
    assert code == 0
    assert "at 02:00 on Sunday; times are UTC" in out
    assert len(re.findall(r"\d{4}-\d\d-\d\d 02:00:00 UTC", out)) == 3
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 2 * * 0"}}
    assert (made["mode"], made["no_catchup"], made["max_concurrency"]) == ("ENABLE", True, "1")
    assert made["runtime_config"]["parameters"]["data"] == "/mnt/osft/qa.csv"


def test_the_same_schedule_again_changes_nothing(server: KfpServer, osft: Osft) -> None:
    osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)
    before, sent = dict(server.schedules), len(server.changes)

    code, out, _ = osft("schedule", "nightly", "--cron", " 0 0  2 * * 0", *PARAMETERS)

    assert code == 0
    assert "is there already" in out
    assert server.schedules == before
    assert len(server.changes) == sent


@pytest.mark.parametrize(
    "change", [MONDAYS, [*SUNDAYS, "--param", "num_epochs=3"], "pipeline"], ids=["time", "parameter", "pipeline"]
)
def test_a_schedule_with_other_content_takes_the_place_of_the_old_one(
    server: KfpServer, osft: Osft, compiled: Path, tmp_path: Path, change: Any
) -> None:
    osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)
    (old,) = server.schedules
    if change == "pipeline":
        change = [*SUNDAYS, "--pipeline", str(other_pipeline(compiled, tmp_path, sdkVersion="kfp-2.16.2"))]

    code, out, _ = osft("schedule", "nightly", *change, *PARAMETERS)

    (new,) = server.named("nightly")
    assert code == 0
    assert new["recurring_run_id"] != old
    assert new["mode"] == "ENABLE"
    assert f"{old} is removed" in out
    assert server.max_enabled == {"nightly": 1}


def test_a_running_training_survives_and_its_schedule_goes_when_it_has_ended(server: KfpServer, osft: Osft) -> None:
    osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)
    (old,) = server.schedules
    for _ in range(150):  # ended runs fill more than a page
        server.fire(old, "SUCCEEDED")
    running = server.fire(old)

    code, out, _ = osft("schedule", "nightly", *MONDAYS, *PARAMETERS)

    assert code == 0
    assert running in out
    assert "until then two can run at once" in out
    assert not server.killed
    assert server.schedules[old]["mode"] == "DISABLE"
    assert [item["mode"] for item in server.named("nightly")].count("ENABLE") == 1

    server.runs[running]["state"] = "SUCCEEDED"
    osft("schedule", "nightly", *MONDAYS, *PARAMETERS)

    assert old not in server.schedules
    assert len(server.named("nightly")) == 1
    assert server.max_enabled == {"nightly": 1}
    assert not server.killed


@pytest.mark.parametrize("command", [["schedule", "nightly", *MONDAYS, *PARAMETERS], ["unschedule", "nightly"]])
def test_a_run_that_starts_at_the_last_moment_survives(server: KfpServer, osft: Osft, command: list[str]) -> None:
    osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)
    server.late_run = True

    code, _, _ = osft(*command)

    assert code == 0
    assert len(server.runs) == 1
    assert not server.killed


@pytest.mark.parametrize("verb", [":disable", ":enable", ""])
def test_a_replacement_that_breaks_off_is_mended_by_the_next(
    server: KfpServer, connection: Connection, pipeline: CompiledPipeline, verb: str
) -> None:
    from pipeline.cluster.cron import parse_cron

    def schedule(text: str) -> schedules.Scheduling:
        values = {"data": "a", "questions": "b"}
        return schedules.schedule(connection, pipeline, "nightly", parse_cron(text), values, False, 0)

    schedule("0 0 2 * * 0")
    server.faults = [Fault(path=verb, status=400)] if verb else [Fault(method="DELETE", status=400)]
    with pytest.raises(Problems) as error:
        schedule("0 0 2 * * 1")
    assert bool(verb) == ("run the same command again" in str(error.value))
    server.faults = []
    schedule("0 0 2 * * 1")

    (left,) = server.named("nightly")
    assert left["mode"] == "ENABLE"
    assert left["trigger"]["cron_schedule"]["cron"] == "0 0 2 * * 1"
    assert server.max_enabled == {"nightly": 1}


def test_several_schedules_of_one_name_become_one(server: KfpServer, osft: Osft) -> None:
    """The dashboard lets anybody duplicate a schedule."""
    osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)
    (first,) = server.schedules
    for number in range(120):
        server.schedules[f"copy-{number}"] = server.schedules[first] | {"recurring_run_id": f"copy-{number}"}
    server.schedules["other"] = server.schedules[first] | {"recurring_run_id": "other", "display_name": "weekly"}

    osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)

    assert [item["mode"] for item in server.named("nightly")] == ["ENABLE"]
    assert "other" in server.schedules


def test_a_schedule_of_a_version_that_was_deleted_is_replaced(server: KfpServer, osft: Osft) -> None:
    osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)
    server.versions.clear()
    server.pipelines.clear()

    code, _, _ = osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)

    (left,) = server.named("nightly")
    assert code == 0
    assert left["pipeline_version_reference"]["pipeline_version_id"] in server.versions


def test_a_schedule_that_somebody_disabled_runs_again(server: KfpServer, osft: Osft) -> None:
    osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)
    next(iter(server.schedules.values()))["mode"] = "DISABLE"

    osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)

    assert [item["mode"] for item in server.named("nightly")] == ["ENABLE"]


@pytest.mark.parametrize("command", [["schedule", "nightly", *MONDAYS, *PARAMETERS], ["unschedule", "nightly"]])
def test_another_pipelines_schedule_is_left_alone(server: KfpServer, osft: Osft, command: list[str]) -> None:
    osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)
    (foreign,) = server.schedules.values()
    foreign |= {"description": "", "pipeline_version_reference": {"pipeline_id": "theirs", "pipeline_version_id": "1"}}
    before = len(server.changes)

    code, _, err = osft(*command)

    assert code == 1
    assert "is another pipeline's" in err
    assert len(server.changes) == before


def test_wrong_times_and_wrong_parameters_are_said_together(server: KfpServer, osft: Osft) -> None:
    code, _, err = osft("schedule", "nightly", "--cron", "0 2 * * *", "--param", "num_epochs=0")

    assert code == 1
    assert "use --cron '0 0 2 * * *', which is at 02:00 every day" in err
    assert "num_epochs is '0'" in err
    assert not server.requests


def test_unschedule_removes_and_says_when_there_is_none(server: KfpServer, osft: Osft) -> None:
    osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)
    dry = osft("unschedule", "nightly", "--dry-run")
    assert len(server.schedules) == 1

    first, second = osft("unschedule", "nightly"), osft("unschedule", "nightly")

    assert (dry[0], first[0], second[0]) == (0, 0, 0)
    assert "would be removed" in dry[1]
    assert "is removed" in first[1]
    assert "there is none named nightly" in second[1]
    assert not server.schedules


def test_unschedule_leaves_a_running_training(server: KfpServer, osft: Osft) -> None:
    osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)
    (schedule,) = server.schedules
    running = server.fire(schedule)

    code, out, _ = osft("unschedule", "nightly")

    assert code == 0
    assert running in out
    assert not server.killed
    assert server.schedules[schedule]["mode"] == "DISABLE"


def test_status_shows_the_newest_runs_and_every_schedule(server: KfpServer, osft: Osft) -> None:
    osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)
    (schedule,) = server.schedules.values()
    ids = [server.fire(schedule["recurring_run_id"], "SUCCEEDED") for _ in range(130)]
    server.runs[ids[-1]]["finished_at"] = "2026-11-22T13:05:00Z"
    for run_id in ids[5:-1]:
        server.runs[run_id]["pipeline_version_reference"] = {"pipeline_id": "theirs", "pipeline_version_id": "1"}
    for number in range(110):
        server.schedules[f"s-{number}"] = schedule | {"display_name": f"daily-{number}", "mode": "DISABLE"}

    code, out, _ = osft("status", "--runs", "4")

    assert code == 0
    assert re.findall(r"^ +(run-\d+)$", out, re.MULTILINE) == [ids[-1], *reversed(ids[2:5])]
    assert "to 2026-11-22 13:05:00 UTC" in out
    assert out.count("DISABLED") == 110
    assert re.search(r"ENABLED +nightly, 0 0 2 \* \* 0 \(at 02:00 on Sunday\), next \d{4}-\d\d-\d\d 02:00:00 UTC", out)


def test_status_of_a_cluster_that_has_nothing(osft: Osft) -> None:
    code, out, _ = osft("status")

    assert (code, out) == (0, "No runs of osft\nNo schedules of osft\n")


# what goes wrong on the way


@pytest.mark.parametrize(
    ("fault", "said", "attempts"),
    [
        (Fault(status=401, body=b"Unauthorized"), "does not accept the token (401)", 1),
        (Fault(status=403), "the KFP API forbids it (403): no healthy upstream", 1),
        (Fault(status=403, body=LOGIN_PAGE, content_type="text/html"), "the KFP API forbids it (403)\n", 1),
        (Fault(status=404, body=b"404 page not found"), "there is no KFP API: it answers with status 404", 1),
        (Fault(status=302, headers={"Location": "https://login.example/?token=x"}), "as a login page does", 1),
        (Fault(status=200, body=LOGIN_PAGE, content_type="text/html"), "it answers with a web page", 1),
        (Fault(status=200, body=b"\xff\xfe"), "something that is no JSON", 1),
        (Fault(status=200, body=b"[]"), "JSON of another kind", 1),
        (Fault(status=404, body=b"\xff\xfe"), "status 404", 1),
        (Fault(status=429), "the KFP API fails after 3 attempts (429): no healthy upstream", 3),
        (Fault(status=500, body=LOGIN_PAGE), "the KFP API fails after 3 attempts (500)\n", 3),
        (Fault(breaks_off=True), "the connection broke (3 attempts)", 3),
        (Fault(status=0, delay_seconds=2.0), "the host does not answer in time (3 attempts)", 3),
    ],
)
def test_a_fault_is_one_clear_error(server: KfpServer, fault: Fault, said: str, attempts: int) -> None:
    server.faults.append(fault)

    with pytest.raises(ApiError) as error:
        connect(Access(host=server.url, token=TOKEN), IMPATIENT)

    assert said in str(error.value)
    assert server.url in str(error.value)
    assert all(problem.remedy and problem.rule for problem in error.value.problems)
    assert TOKEN not in str(error.value)
    assert len(server.requests) == attempts


@pytest.mark.parametrize("status", [429, 503])
def test_a_fault_that_passes_is_not_noticed(server: KfpServer, osft: Osft, status: int) -> None:
    server.faults = [
        Fault(path="/healthz", status=status, times=1, headers={"Retry-After": "1"}),
        Fault(path="/pipelines", breaks_off=True, times=1),
    ]

    code, _, err = osft("upload")

    assert (code, err) == (0, "")
    assert len(server.versions) == 1


@pytest.mark.parametrize(
    ("host", "said"),
    [("http://127.0.0.1:1", "the host cannot be reached"), ("http://no-such-host.invalid", "the host is not known")],
)
def test_a_host_that_is_not_there(host: str, said: str) -> None:
    with pytest.raises(ApiError, match=said):
        connect(Access(host=host), IMPATIENT)


def test_a_certificate_of_an_unknown_authority(osft: Osft, tmp_path: Path) -> None:
    certificate = write_certificate(tmp_path / "server.pem")
    with KfpServer(certificate=certificate) as server:
        refused = osft("status", "--host", server.url)
        accepted = osft("status", "--host", server.url, "--ca", certificate)

    assert refused[0] == 1
    assert "certificate is not trusted" in refused[2]
    assert "--ca FILE.pem or OSFT_KFP_CA" in refused[2]
    assert accepted[0] == 0


# who asks, and where


def test_a_mistaken_access_is_said_at_once(osft: Osft, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none", encoding="utf-8")

    code, _, err = osft("status", "--host", "kfp.example", "--token", "two words", "--ca", tmp_path / "ca.pem")
    _, _, missing = osft("status", "--host", "https://user:secret@kfp.example", "--ca", tmp_path / "nowhere.pem")

    assert code == 1
    for said in ("3 problems", "'kfp.example' is no address", "the token has blanks", "holds no certificate"):
        assert said in err
    assert "cannot be read: No such file" in missing
    assert "secret" not in missing


def test_without_a_host_the_error_names_the_ways_to_give_one(
    osft: Osft, server: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OSFT_KFP_HOST")

    code, _, err = osft("status")

    assert code == 1
    assert "--host, OSFT_KFP_HOST, the login with oc" in err


def test_a_pods_token_is_read_again_when_it_is_renewed(
    osft: Osft, server: KfpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN, encoding="utf-8")
    monkeypatch.delenv("OSFT_KFP_TOKEN")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    connection = connect(find_access(host=server.url), IMPATIENT)

    server.token = "renewed"
    file.write_text("renewed", encoding="utf-8")
    runs.status(connection, "osft", 1)
    server.token = TOKEN
    with pytest.raises(ApiError, match="does not accept the token"):
        runs.status(connection, "osft", 1)

    assert {request.authorization for request in server.requests} == {f"Bearer {TOKEN}", "Bearer renewed"}


def test_inside_the_cluster_everything_comes_from_the_service_account(tmp_path: Path) -> None:
    write_certificate(tmp_path / "service-ca.crt")
    (tmp_path / "namespace").write_text("team", encoding="utf-8")
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")

    access = find_access(environment={}, service_account=tmp_path)

    assert access.host == "https://ds-pipeline-dspa.team.svc.cluster.local:8443"
    assert access.token_file == str(tmp_path / "token")
    assert access.ca == str(tmp_path / "service-ca.crt")
    assert TOKEN not in repr(find_access(host="https://a.example", token=TOKEN))


def kubeconfig(path: Path, server: str, token: str = TOKEN) -> Path:
    """What oc login writes."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "team",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "team", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_the_login_with_oc_is_enough(
    osft: Osft, server: KfpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OSFT_KFP_HOST")
    monkeypatch.delenv("OSFT_KFP_TOKEN")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", server.url)))

    code, _, _ = osft("upload")

    assert code == 0
    assert len(server.versions) == 1
    assert "/namespaces/team/" in server.requests[0].path


def test_a_login_with_oc_that_has_expired(
    osft: Osft, server: KfpServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OSFT_KFP_HOST")
    monkeypatch.delenv("OSFT_KFP_TOKEN")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", server.url, token="old")))

    code, _, err = osft("status")
    (tmp_path / "config").write_text("nonsense", encoding="utf-8")
    broken, _, said = osft("status")

    assert (code, broken) == (1, 1)
    assert "the login with oc has expired" in err
    assert "cannot be used" in said


def test_a_login_is_not_sent_in_the_clear(tmp_path: Path) -> None:
    environment = {"KUBECONFIG": str(kubeconfig(tmp_path / "config", "https://cluster.example"))}

    assert find_access(host="https://kfp.example", environment=environment).token == TOKEN
    assert find_access(host="http://kfp.example", environment=environment).token == ""


def test_a_process_of_its_own_ends_without_a_traceback(server: KfpServer, compiled: Path, tmp_path: Path) -> None:
    environment = os.environ | {"OSFT_KFP_HOST": server.url, "OSFT_KFP_TOKEN": TOKEN, "HOME": str(tmp_path)}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    done, refused = call("submit", *PARAMETERS, "--pipeline", str(compiled)), call("status", "--token", "wrong")

    assert (done.returncode, done.stderr, len(server.runs)) == (0, "", 1)
    assert refused.returncode == 1
    assert "does not accept the token" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert call("submit", "--no-such-option").returncode == 2
