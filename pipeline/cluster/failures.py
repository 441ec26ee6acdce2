"""Why a run failed: which step, what Kubernetes says of its pod, and the error as the step printed it.

    ingest-sdg, 2 attempts: main: Error (exit code 1)
        error: 1 problem
        1. no such file
             where:  /mnt/osft/qa.csv
        ...

The API's run has a state and no error. What it has besides: the workflow's manifest, in which Argo keeps a message for
every pod (the API's first version serves it), the pod's log while the pod is there, and the archived log where the
workflow controller keeps logs (archiveLogs). All of it is the cluster's text, and none of it need be there.
"""

import base64
import dataclasses
import json
import re
from typing import Any

from pipeline.cluster.connection import ApiError, Connection

MAX_BYTES = 1 << 25  # of a manifest or an archived log, which are JSON and of use only as a whole
LOG_BYTES = 1 << 16  # of the end of a pod's log
MAX_LINES, LAST_LINES, MAX_WIDTH = 12, 3, 300  # of an error: lines, those of its end among them, characters of each
ENDED_BADLY = ("Failed", "Error")
STEP_LINE = re.compile(r"(\w+ \| )(.*)")  # components/shared/progress.py
# The lines of KFP's launcher and driver: I, W, E or F, date, time, process, place.
KFP_LINE = re.compile(r"([IWEF])\d{4} [\d:.]+ +\d+ [\w.-]+:\d+\] (.*)")
LAUNCHER = re.compile(r"\s|[{}\[\]]|$")  # what the launcher prints of a task's inputs, and what is indented


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """A pod that ended badly, the last of its step."""

    step: str
    """The task's name, or of KFP's own pods theirs: 'ingest-sdg', 'root-driver'."""
    attempts: int
    reason: str
    """What Argo says: 'main: Error (exit code 1)', 'OOMKilled (exit code 137)', 'pod deleted'."""
    pod: str
    error: tuple[str, ...]
    """Lines of what it printed; empty when its log is not to be had."""


def failures_of(connection: Connection, run_id: str) -> tuple[Failure, ...]:
    """The steps of a run that failed, the first one first; empty when the API does not say."""
    try:
        run = json.loads(connection.read(f"/apis/v1beta1/runs/{run_id}", MAX_BYTES))
        workflow = json.loads(run["pipeline_runtime"]["workflow_manifest"])
        pods = [node for node in workflow["status"]["nodes"].values() if node["type"] == "Pod"]
        of_step: dict[str, list[dict[str, Any]]] = {}
        for pod in sorted(pods, key=lambda pod: (pod["startedAt"] or "9", pod["name"])):
            of_step.setdefault(_step_of(pod["name"]), []).append(pod)
        return tuple(
            _failure(connection, run_id, step, attempts, _pod_name(workflow["metadata"], attempts[-1]))
            for step, attempts in of_step.items()
            if attempts[-1]["phase"] in ENDED_BADLY
        )
    except (
        ApiError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ):  # not served, or of another form
        return ()


def error_in(log: str) -> tuple[str, ...]:
    """The lines of a pod's log that say why it failed: the step's error, or else its and the launcher's last words."""
    lines = log.splitlines()
    errors = [number for number, line in enumerate(lines) if re.match(r"\w+ \| error: ", line)]
    if errors:
        found = [match[2] for line in lines[errors[-1] :] if (match := STEP_LINE.fullmatch(line))]
    else:
        printed = [line for line in lines if not KFP_LINE.fullmatch(line) and not LAUNCHER.match(line)]
        fatal = [match[2] for line in lines if (match := KFP_LINE.fullmatch(line)) and match[1] == "F"]
        found = [*printed[-LAST_LINES:], *fatal[-1:]]
    if len(found) > MAX_LINES:
        found = [*found[: MAX_LINES - LAST_LINES - 1], "…", *found[-LAST_LINES:]]
    return tuple(
        line if len(line) <= MAX_WIDTH else f"{line[: MAX_WIDTH // 2]} … {line[-MAX_WIDTH // 2 :]}" for line in found
    )


def _failure(connection: Connection, run_id: str, step: str, attempts: list[dict[str, Any]], pod: str) -> Failure:
    log = _read_log(connection, run_id, pod, attempts[-1]["id"])
    return Failure(
        step=connection.printable(step),
        attempts=len(attempts),
        reason=connection.printable(attempts[-1].get("message") or attempts[-1]["phase"])[:MAX_WIDTH],
        pod=connection.printable(pod),
        error=tuple(connection.printable(line) for line in error_in(log)),
    )


def _read_log(connection: Connection, run_id: str, pod: str, node: str) -> str:
    """The end of a pod's log; empty when there is none."""
    try:
        log = connection.read(f"/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log", LOG_BYTES).decode("utf-8", "replace")
        if '{"error_message":' not in log:  # the API server answers 200, too, when it has no log
            return log
    except ApiError:
        pass
    try:
        path = f"/apis/v2beta1/runs/{run_id}/nodes/{node}/artifacts/main-logs:read"
        return base64.b64decode(json.loads(connection.read(path, MAX_BYTES))["data"]).decode("utf-8", "replace")
    except (ApiError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def _step_of(name: str) -> str:
    """The step of 'osft-x7k2p.root.exit-handler-1.ingest-sdg.executor(1)', or the driver's own name."""
    *_, parent, own = f".{name}".split(".")
    return parent if own.startswith("executor") else own.partition("(")[0]


def _pod_name(workflow: dict[str, Any], node: dict[str, Any]) -> str:
    """As Argo forms it: the node's id with its template's name in it."""
    if workflow.get("annotations", {}).get("workflows.argoproj.io/pod-name-format") == "v1":
        return str(node["id"])
    return f"{workflow['name']}-{node['templateName']}-{node['id'].rpartition('-')[2]}"
