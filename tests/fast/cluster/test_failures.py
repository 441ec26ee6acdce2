"""Why a run failed, as `submit --wait` and `status` show it."""

import copy
import zlib
from typing import Any

import pytest

from pipeline.cluster.failures import MAX_LINES, MAX_WIDTH, error_in
from tests.fast.cluster.conftest import PARAMETERS, TOKEN
from tests.kfp_server import Fault
from tests.tables import table


def node(name: str, phase: str, message: str, template: str = "system-container-impl", started: str = "1") -> Any:
    number = zlib.crc32(name.encode())
    found = {"id": f"osft-x-{number}", "name": f"osft-x.root.{name}", "type": "Pod", "phase": phase}
    return found | {"message": message, "templateName": template, "startedAt": started}


def workflow(*nodes: Any) -> dict[str, Any]:
    """What Argo leaves of a run: groups of steps beside the pods."""
    group = {"id": "osft-x-1", "name": "osft-x.root", "type": "DAG", "phase": "Failed", "startedAt": "0"}
    named = {one["id"]: one for one in (group, *nodes)}
    return {"metadata": {"name": "osft-x", "annotations": {}}, "status": {"phase": "Failed", "nodes": named}}


FIRST = node("exit-handler-1.ingest-sdg.executor(0)", "Failed", "main: Error (exit code 1)")
SECOND = node("exit-handler-1.ingest-sdg.executor(1)", "Failed", "main: Error (exit code 1)", started="2")
MENDED = node("exit-handler-1.snapshot-model.executor(1)", "Succeeded", "", started="2")
BEFORE = node("exit-handler-1.snapshot-model.executor(0)", "Error", "pod deleted")
KILLED = node("exit-handler-1.train-osft.executor", "Failed", "OOMKilled (exit code 137)", started="3")
DRIVER = node("root-driver", "Failed", "main: Error (exit code 1)", "system-dag-driver")
LOG = f"""I1127 06:18:03.1 18 main.go:106] Setting log level to: '1'
{{
    "outputFile": "/minio/output_metadata.json"
}}
ingest_sdg | started
ingest_sdg | error: 1 problem
ingest_sdg | 1. no such file \x1b[2J {TOKEN}
ingest_sdg |      where:  /mnt/osft/qa.csv
E1127 06:18:04.4 32 launcher_v2.go:418] Component failed to execute successfully: exit status 1
F1127 06:18:04.5 32 main.go:58] failed to execute component: exit status 1
"""
SHOWN = [
    "ingest-sdg failed, 2 attempts: main: Error (exit code 1)",
    "    error: 1 problem",
    "    1. no such file  [2J (the token)",
    "         where:  /mnt/osft/qa.csv",
]


def pod_of(one: dict[str, Any]) -> str:
    return str(one["id"].replace("osft-x-", f"osft-x-{one['templateName']}-"))


@pytest.mark.parametrize("command", ["submit", "status"])
@pytest.mark.parametrize("kept", ["pod", "archive"])
def test_a_failed_run_says_which_step_failed_and_what_it_printed(server, osft, command, kept):
    server.story = [{"state": "FAILED"}]
    server.workflow = workflow(FIRST, SECOND, BEFORE, MENDED)
    server.logs = {pod_of(SECOND) if kept == "pod" else SECOND["id"]: LOG}

    _, out, _ = osft("submit", *PARAMETERS, *(["--wait"] if command == "submit" else []))
    for run in server.runs.values():
        run["state"] = "FAILED"
    out = out if command == "submit" else osft("status")[1]

    lines = out.splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.strip() == SHOWN[0])
    indent = len(lines[start]) - len(SHOWN[0])
    assert [line[indent:] for line in lines[start : start + 4]] == SHOWN
    assert "snapshot-model" not in out  # it was tried again, and well
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("found", "logs", "message"),
    [
        (KILLED, {}, "train-osft failed: OOMKilled (exit code 137)\n    its log is not in the API"),
        (KILLED, {}, f"oc logs {pod_of(KILLED)} -c main"),
        (
            DRIVER,
            {DRIVER["id"]: "I1127 06:18:03.1 18 main.go:1] a\nF1127 06:18:04.5 32 main.go:82] KFP driver: no bucket\n"},
            "root-driver failed: main: Error (exit code 1)\n    KFP driver: no bucket\n",
        ),
        ({"type": "Pod"}, {}, "the API does not say why"),
    ],
)
def test_a_failed_pod_without_a_steps_error_says_what_there_is(server, osft, found, logs, message):
    server.story = [{"state": "FAILED"}]
    server.workflow = workflow({"id": "osft-x-7"} | copy.deepcopy(found))
    server.logs = logs

    code, out, _ = osft("submit", *PARAMETERS, "--wait")

    assert code == 1
    assert message in out


@pytest.mark.parametrize(("log", "expected"), table("failures", "lines"))
def test_the_lines_that_say_why(log, expected):
    assert error_in(log) == tuple(expected)


def test_of_a_long_error_and_of_a_long_line_beginning_and_end_are_shown():
    found = error_in("\n".join(["a | error: 0", *(f"a | {number}" for number in range(1, 99))]))

    assert len(found) == MAX_LINES
    assert (found[0], found[-4:]) == ("error: 0", ("…", "96", "97", "98"))
    (line,) = error_in(f"a | error: {'x' * 999}y")
    assert line.startswith("error: xx")
    assert line.endswith("xy")
    assert len(line) <= MAX_WIDTH + 3


def test_logs_that_cannot_be_read_cost_one_attempt_each(server, osft):
    server.story = [{"state": "FAILED"}]
    server.workflow = workflow(KILLED)
    server.faults = [Fault(path="/nodes/", status=503)]

    _, out, _ = osft("submit", *PARAMETERS, "--wait")

    assert "its log is not in the API" in out
    assert len([request for request in server.requests if "/nodes/" in request.path]) == 2
