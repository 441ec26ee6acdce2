"""upload and submit: what reaches the API, and what is shown."""

import json
import re
from typing import Any

import pytest

from pipeline.cluster import runs
from pipeline.cluster.compiled_file import PIPELINE
from pipeline.cluster.connection import ApiError
from tests.cluster_file import compiled_for_a_cluster
from tests.fast.cluster.conftest import PARAMETERS, SUNDAYS, TOKEN, changed
from tests.kfp_server import Fault
from tests.tables import table

SENDING = [["upload"], ["submit", *PARAMETERS], ["schedule", "nightly", *SUNDAYS, *PARAMETERS]]

# upload


def test_the_same_content_is_one_version_and_other_content_another(server, osft, compiled, other_pipeline, tmp_path):
    same = tmp_path / "same.yaml"
    same.write_text("# moved about\n" + compiled.read_text(encoding="utf-8"), encoding="utf-8")

    outputs = [osft("upload", file)[1] for file in (compiled, compiled, same, other_pipeline, compiled)]

    assert ["is registered" in out for out in outputs] == [True, False, False, True, False]
    assert all("is registered" in out or "is there already" in out for out in outputs)
    assert len(server.pipelines) == 1
    assert len(server.versions) == 2
    assert all(re.fullmatch(r"osft-[0-9a-f]{12}", version["name"]) for version in server.versions.values())


@pytest.mark.parametrize("command", SENDING)
def test_a_dry_run_changes_nothing(server, osft, command):
    code, out, _ = osft(*command, "--dry-run")

    assert code == 0
    assert "would be" in out
    assert server.requests
    assert not server.changes


@pytest.mark.parametrize(("document", "path", "key"), table("runs", "unknown"))
def test_a_pipeline_that_the_api_does_not_know_is_refused(server, osft, compiled, tmp_path, document, path, key):
    file = changed(compiled, tmp_path / "pipeline.yaml", document, path, key, {"resourceTtlOnCompletion": 60})

    code, _, err = osft("upload", file)

    assert code == 1
    assert "the KFP API refuses (400)" in err
    assert key in err
    assert not server.versions


@pytest.mark.parametrize("command", SENDING)
@pytest.mark.parametrize("image", ["", "osft-pipeline/cpu:0.1.0", "registry.invalid:5000/cpu"])
def test_placeholders_for_images_are_refused_before_anything_is_sent(server, osft, compiled, tmp_path, command, image):
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


@pytest.mark.parametrize(("content", "message"), table("runs", "no_pipelines"))
def test_a_file_that_is_no_pipeline(osft, compiled, tmp_path, content, message):
    path = tmp_path / "pipeline.yaml"
    if content is not None:
        half = compiled.read_text(encoding="utf-8").split("\n---\n")[0]
        path.write_text(half if content.startswith("without") else content, encoding="utf-8")

    code, _, err = osft("upload", path)

    assert code == 1
    assert message in err


# submit


def test_submit_starts_a_run_with_typed_parameters(server, osft):
    more = ["num_epochs=3", "learning_rate=1e-5", 'training_options={"warmup_steps": 10}', "system_prompt=a=b"]

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
    }
    assert run["pipeline_version_reference"]["pipeline_version_id"] in server.versions


@pytest.mark.parametrize("source", ["pipeline", "option", "variable", "nowhere"])
def test_links_lead_to_the_dashboard_that_is_named(server, osft, tmp_path, monkeypatch, source):
    page = "https://other.example/runs/ours"
    named: list[str] = []
    if source == "pipeline":
        page = "https://ai.example/develop-train/pipelines/runs/team"
        named = ["--pipeline", str(compiled_for_a_cluster(tmp_path, f'notify.runs_page = "{page}/runs"\n'))]
    if source == "option":
        named = ["--dashboard", f"{page}/runs/"]
    if source == "variable":
        monkeypatch.setenv("OSFT_KFP_DASHBOARD", f"{page}/runs")

    _, submitted, _ = osft("submit", *PARAMETERS, *named)
    _, scheduled, _ = osft("schedule", "nightly", *SUNDAYS, *PARAMETERS, *named)
    _, shown, _ = osft("status", *named)

    run, schedule = next(iter(server.runs)), next(iter(server.schedules))
    for out, ids in ((submitted, [f"runs/{run}"]), (scheduled, [f"schedules/{schedule}"]), (shown, [run, schedule])):
        if source == "nowhere":
            assert all(one.rpartition("/")[2] in out for one in ids)
            assert "notify.runs_page in the cluster file and --pipeline, or OSFT_KFP_DASHBOARD" in out
            assert "://" not in out
        else:
            assert all(re.search(f"{page}/(runs/|schedules/)?{one}", out) for one in ids)
            assert "OSFT_KFP_DASHBOARD" not in out


def test_a_page_that_is_none_of_the_dashboards_is_refused(server, osft):
    code, _, err = osft("submit", *PARAMETERS, "--dashboard", "https://ai.example/develop-train/pipelines/runs/team")
    _, _, secret = osft("status", "--dashboard", "https://user:secret@ai.example/runs")

    assert code == 1
    assert "https://DASHBOARD/develop-train/pipelines/runs/PROJECT/runs" in err
    assert "secret@" not in secret
    assert not server.requests


def test_a_lost_answer_starts_nothing_twice(server, osft):
    for path in ("/pipelines", "/upload_version", "/runs", "/recurringruns"):
        server.faults.append(Fault(method="POST", path=path, times=1, status=504, after_deed=True))

    submitted, _, _ = osft("submit", *PARAMETERS)
    scheduled, _, _ = osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)

    assert (submitted, scheduled) == (0, 0)
    assert all(fault.times == 0 for fault in server.faults)
    assert [len(items) for items in (server.pipelines, server.versions, server.runs, server.schedules)] == [1] * 4


# submit --wait


def steps(**states: str | None) -> dict[str, Any]:
    """What a run reports of its steps."""
    tasks = [
        {"task_id": f"id-{name}", "display_name": name.replace("_", "-"), "state": state}
        for name, state in states.items()
    ]
    return {"run_details": {"task_details": tasks}}


@pytest.mark.parametrize(("end", "expected"), [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 1), ("SKIPPED", 1)])
def test_wait_shows_each_change_once_and_ends_with_an_exit_code(server, osft, end, expected):
    server.story = [
        {"state": "PENDING"},
        {"state": "RUNNING"} | steps(ingest_sdg="RUNNING", ingest_sdg_driver="SUCCEEDED"),
        {"state": "RUNNING"} | steps(ingest_sdg="RUNNING"),
        {"state": "RUNNING"} | steps(ingest_sdg="SUCCEEDED", train_osft="RUNNING"),
        {"state": end} | steps(ingest_sdg="SUCCEEDED", train_osft=end, publish=None),  # omitted
        {"state": "SUCCEEDED"},  # nobody looks any more
    ]

    code, out, _ = osft("submit", *PARAMETERS, "--wait")

    assert code == expected
    assert [" ".join(line.split()[1:]) for line in out.splitlines() if " | " in line] == [
        "run | PENDING",
        "ingest-sdg | RUNNING",
        "run | RUNNING",
        "ingest-sdg | SUCCEEDED",
        "train-osft | RUNNING",
        f"train-osft | {end}",
        f"run | {end}",
    ]
    assert ("the API does not say why" in out) == (end == "FAILED")


@pytest.mark.parametrize("state", ["QUEUED", "RUNTIME_STATE_UNSPECIFIED", ""])
def test_wait_ends_with_a_word_when_nobody_knows_the_state(server, osft, monkeypatch, state):
    monkeypatch.setattr(runs, "LOST_SECONDS", 0.1)
    server.story = [{"state": "RUNNING"}, {"state": state}, {"state": state or "SUCCEEDED"}]

    code, _, err = osft("submit", *PARAMETERS, "--wait")

    assert code == (1 if state else 0)
    assert ("a state that this program does not know" in err) == bool(state)


def test_wait_survives_a_connection_that_goes_and_comes(server, connection, pipeline):
    submission = runs.submit(connection, pipeline, {"data": "a", "questions": "b"}, False)
    assert submission.run is not None
    server.story = [{"state": "RUNNING"}, {"state": "SUCCEEDED"}]
    changes = []

    for change in runs.follow(connection, submission.run.run_id, pipeline.steps, 0.01, 60.0):
        changes.append((change.name, change.state))
        if change.state == "RUNNING":
            server.faults = [Fault(path="/runs", breaks_off=True, times=4), Fault(path="/runs", status=502, times=4)]

    assert changes == [("run", "RUNNING"), ("connection", "lost"), ("connection", "back"), ("run", "SUCCEEDED")]


def test_wait_gives_up_a_connection_that_stays_away(server, connection):
    server.faults = [Fault(path="/runs", breaks_off=True)]

    with pytest.raises(ApiError, match="the connection broke"):
        list(runs.follow(connection, "run-1", (), 0.01, 0.2))


def test_texts_of_the_cluster_do_not_act_on_the_terminal(server, osft):
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
