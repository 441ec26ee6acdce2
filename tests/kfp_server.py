"""A KFP API as kfp.Client sees it, on this machine: keeps state, enforces the API's rules, fails on demand.

with KfpServer() as server:
    ...  # --host server.url; then look at server.pipelines, server.runs, server.schedules

What a cluster does besides is played by the test: `story` is what a run reports, poll after poll; `workflow` and `logs`
are what its pods leave behind; `faults` are answers that come in place of the right one; `fire` starts a run of a
schedule, as the controller does when its time has come.
"""

import base64
import dataclasses
import email.parser
import email.policy
import itertools
import json
import re
import secrets
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.http_server import Answer, HttpServer, Request
from tests.kfp_fields import unknown_fields

API = "/apis/v2beta1"
POD_LOG = re.compile(r"/apis/v1alpha1/runs/[^/]+/nodes/([^/]+)/log")
STARTED = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
CRON_FIELD = re.compile(r"[*?]|[\w*?]+([-/,][\w*]+)*")
FILTER_FIELDS = {
    "pipelines": {"display_name", "name", "pipeline_id"},
    "versions": {"display_name", "name"},
    "experiments": {"display_name"},
    "runs": {"display_name", "recurring_run_id", "state", "experiment_id", "run_id"},
    "recurringRuns": {"display_name", "recurring_run_id"},
}


@dataclasses.dataclass(kw_only=True)
class Fault:
    """An answer in place of the right one."""

    path: str = ""
    """Part of the address that it befalls."""
    method: str = ""
    status: int = 503
    body: bytes = b'{"error": "unavailable", "message": "no healthy upstream", "code": 14}'
    content_type: str = "application/json"
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    times: int = 1_000_000
    after_deed: bool = False
    """The request is carried out, and then its answer is lost."""
    breaks_off: bool = False
    """No answer at all: the connection ends."""
    delay_seconds: float = 0.0
    """Before an answer; with status 0 it is the right one."""

    def hits(self, request: Request) -> bool:
        return self.path in request.path and self.method in ("", request.method)


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message


class KfpServer(HttpServer):
    def __init__(self, *, token: str = "", multi_user: bool = False, certificate: Path | None = None) -> None:
        super().__init__(certificate)
        self.token = token
        self.multi_user = multi_user
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.schedules: dict[str, dict[str, Any]] = {}
        self.killed: list[str] = []
        """Runs that had not ended when their schedule was deleted."""
        self.max_enabled: dict[str, int] = {}
        """How many schedules of a name were enabled at once, at most."""
        self.story: list[dict[str, Any]] = []
        """What the next looks at a run find, one after the other; the last one stays."""
        self.faults: list[Fault] = []
        self.workflow: dict[str, Any] | None = None
        """Argo's, of every run; None: the API does not serve it."""
        self.logs: dict[str, str] = {}
        """By the pod's name, while the pod is there; by the node's id, where the log is archived."""
        self.late_run = False
        """A schedule has just started a run when it is disabled; it appears in the list of runs a moment later."""
        self.numbers_per_second = 1
        """How many things are made within one second: the API's times are of whole seconds."""
        self._numbers = itertools.count(1)

    @property
    def changes(self) -> list[Request]:
        """The requests that would change something."""
        return [request for request in self.requests if request.method != "GET"]

    def named(self, name: str) -> list[dict[str, Any]]:
        """The schedules of a name."""
        return [item for item in self.schedules.values() if item["display_name"] == name]

    def fire(self, schedule_id: str, state: str = "RUNNING") -> str:
        """Start a run of a schedule; returns its id."""
        schedule = self.schedules[schedule_id]
        run = {
            key: schedule[key]
            for key in ("experiment_id", "pipeline_version_reference", "runtime_config")
            if key in schedule
        }
        return self._add(
            self.runs, "run_id", run | {"display_name": "fired", "state": state, "recurring_run_id": schedule_id}
        )

    def answer(self, request: Request) -> Answer:
        with self.lock:
            fault = next((f for f in self.faults if f.times and f.hits(request)), None)
            if fault:
                fault.times -= 1
            answer = Answer()
            if fault is None or fault.after_deed or fault.status == 0:
                answer = self._answer(request)
        if fault is None:
            return answer
        if fault.status:
            headers = {"Content-Type": fault.content_type, **fault.headers}
            answer = Answer(status=fault.status, body=fault.body, headers=headers)
        return dataclasses.replace(answer, delay_seconds=fault.delay_seconds, sent=-1.0 if fault.breaks_off else 1.0)

    def _answer(self, request: Request) -> Answer:
        try:
            if self.token and request.authorization != f"Bearer {self.token}":
                raise Refusal(401, "Unauthorized")
            if match := POD_LOG.fullmatch(request.path):
                missing = json.dumps({"error_message": f"Failed to read logs from archive {match[1]}"})
                return Answer(body=self.logs.get(match[1], missing).encode(), headers={"Content-Type": "text/plain"})
            return Answer.of_json(self.carry_out(request))
        except Refusal as refusal:
            message = {"error": refusal.message, "message": refusal.message, "code": 1}
            return Answer.of_json(message, refusal.status)

    def carry_out(self, request: Request) -> dict[str, Any]:
        """Do what a request asks for.

        Raises:
            Refusal: when the API would.
        """
        path, query, body = request.path, request.query, request.body
        if path.endswith("/datasciencepipelinesapplications"):  # of the cluster's own API
            return {"items": [{"status": {"components": {"apiServer": {"externalUrl": self.url}}}}]}
        if path.startswith("/apis/v1beta1/runs/"):
            if self.workflow is None:
                raise Refusal(404, "Not Found")
            return {"pipeline_runtime": {"workflow_manifest": json.dumps(self.workflow)}}
        parts = [unquote(part) for part in path.removeprefix(f"{API}/").split("/")]
        match (request.method, parts):
            case "GET", ["healthz"]:
                return {"multi_user": self.multi_user}
            case "GET", ["pipelines"]:
                return self._page("pipelines", self.pipelines, query)
            case "POST", ["pipelines"]:
                return self._create_pipeline(json.loads(body))
            case "POST", ["pipelines", "upload_version"]:
                return self._upload_version(query, body, request.headers)
            case "GET", ["pipelines", pipeline_id, "versions"]:
                own = {key: item for key, item in self.versions.items() if item["pipeline_id"] == pipeline_id}
                return {"pipeline_versions": (page := self._page("versions", own, query)).pop("versions", [])} | page
            case "GET", ["experiments"]:
                return self._page("experiments", self.experiments, query)
            case "POST", ["experiments"]:
                given = json.loads(body)
                if any(item["display_name"] == given["display_name"] for item in self.experiments.values()):
                    raise Refusal(409, "the experiment already exists")
                return self.experiments[self._add(self.experiments, "experiment_id", given)]
            case "GET", ["runs"]:
                return self._page("runs", self.runs, query)
            case "POST", ["runs"]:
                return self._create_run(json.loads(body))
            case "GET", ["runs", run_id]:
                run = _get(self.runs, run_id)
                if self.story:
                    run |= self.story.pop(0) if len(self.story) > 1 else self.story[0]
                return run
            case "GET", ["runs", _, "nodes", node, "artifacts", "main-logs:read"]:
                if node not in self.logs:
                    raise Refusal(404, "artifact not found")
                return {"data": base64.b64encode(self.logs[node].encode()).decode()}
            case "GET", ["recurringruns"]:
                return self._page("recurringRuns", self.schedules, query)
            case "POST", ["recurringruns"]:
                return self._create_schedule(json.loads(body))
            case "DELETE", ["recurringruns", schedule_id]:
                return self._delete_schedule(schedule_id)
            case "POST", ["recurringruns", target]:
                schedule_id, _, verb = target.partition(":")
                mode = {"enable": "ENABLE", "disable": "DISABLE"}[verb]
                _get(self.schedules, schedule_id)["mode"] = mode
                if self.late_run and verb == "disable":
                    threading.Timer(0.2, self.fire, [schedule_id]).start()
                self._count_enabled()
                return {}
        raise Refusal(404, "Not Found")

    def _create_pipeline(self, given: dict[str, Any]) -> dict[str, Any]:
        if not given.get("name"):
            raise Refusal(400, "pipeline's name cannot be empty")
        if any(item["name"] == given["name"] for item in self.pipelines.values()):
            raise Refusal(409, f"pipeline {given['name']} already exists")
        return self.pipelines[self._add(self.pipelines, "pipeline_id", given)]

    def _upload_version(self, query: dict[str, str], body: bytes, headers: Any) -> dict[str, Any]:
        _get(self.pipelines, query["pipelineid"])
        file_name, content = _uploaded_file(body, headers)
        if not file_name.endswith((".yaml", ".yml")):
            raise Refusal(400, "unsupported pipeline format")
        documents = list(yaml.safe_load_all(content))
        try:
            json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
            for document in documents[1:]:
                json_format.ParseDict(document, pipeline_spec_pb2.PlatformSpec())
        except json_format.ParseError as error:
            raise Refusal(400, f"unknown template format: {error}") from None
        if unknown := unknown_fields(documents):  # the installed SDK knows more, and anything goes in its PlatformSpec
            raise Refusal(400, f"unknown template format: unknown field {', '.join(unknown)}")
        if any((v["pipeline_id"], v["name"]) == (query["pipelineid"], query["name"]) for v in self.versions.values()):
            raise Refusal(409, f"version {query['name']} already exists")
        version = {
            "pipeline_id": query["pipelineid"],
            "name": query["name"],
            "display_name": query["name"],
            "description": query.get("description", ""),
            "pipeline_spec": {"pipeline_spec": documents[0]},
        }
        return self.versions[self._add(self.versions, "pipeline_version_id", version)]

    def _create_run(self, given: dict[str, Any]) -> dict[str, Any]:
        self._check_started(given)
        return self.runs[self._add(self.runs, "run_id", given | {"state": "PENDING"})]

    def _create_schedule(self, given: dict[str, Any]) -> dict[str, Any]:
        self._check_started(given)
        fields = given["trigger"]["cron_schedule"]["cron"].split(" ")
        if len(fields) != 6 or not all(map(CRON_FIELD.fullmatch, fields)):
            raise Refusal(400, f"Schedule cron is not supported: {fields}")
        if not 1 <= int(given.get("max_concurrency", 0)) <= 10:
            raise Refusal(400, "The max concurrency of the recurring run is not supported")
        created = self.schedules[self._add(self.schedules, "recurring_run_id", given | {"status": "ENABLED"})]
        created["max_concurrency"] = str(created["max_concurrency"])
        self._count_enabled()
        return created

    def _delete_schedule(self, schedule_id: str) -> dict[str, Any]:
        _get(self.schedules, schedule_id)
        del self.schedules[schedule_id]
        for run in self.runs.values():
            if run.get("recurring_run_id") == schedule_id and run["state"] not in ENDED:
                run["state"] = "FAILED"
                self.killed.append(run["run_id"])
        return {}

    def _check_started(self, given: dict[str, Any]) -> None:
        """What holds for a run and for a schedule: its version, its experiment, its parameters."""
        _get(self.experiments, given["experiment_id"])
        reference = given["pipeline_version_reference"]
        version = _get(self.versions, reference["pipeline_version_id"])
        if version["pipeline_id"] != reference["pipeline_id"]:
            raise Refusal(400, "the version is another pipeline's")
        inputs = version["pipeline_spec"]["pipeline_spec"]["root"].get("inputDefinitions", {}).get("parameters", {})
        parameters = given["runtime_config"].get("parameters", {})
        missing = [name for name, i in inputs.items() if not i.get("isOptional") and name not in parameters]
        if missing or set(parameters) - set(inputs):
            raise Refusal(400, f"parameters missing: {missing}, unknown: {sorted(set(parameters) - set(inputs))}")
        kinds = {"STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": (int, float), "STRUCT": dict, "LIST": list}
        for name, value in parameters.items():
            if not isinstance(value, kinds.get(inputs[name]["parameterType"], bool)):
                raise Refusal(400, f"input parameter {name} requires type {inputs[name]['parameterType']}")

    def _page(self, kind: str, items: dict[str, dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
        """A page of a list: filtered, in the order asked for, `page_size` items at most."""
        found = list(items.values())
        for predicate in json.loads(query.get("filter") or "{}").get("predicates", []):
            if predicate["key"] not in FILTER_FIELDS[kind] or predicate["operation"] not in (1, "EQUALS"):
                raise Refusal(400, f"no such filter: {predicate}")
            found = [item for item in found if item.get(predicate["key"]) == predicate["stringValue"]]
        field, _, order = query.get("sort_by", "").partition(" ")
        found.sort(key=lambda item: item[field or "created_at"], reverse=order == "desc")
        start, size = int(query.get("page_token") or 0), int(query.get("page_size") or 20)
        if size > 200:
            raise Refusal(400, "page size is above 200")
        page: dict[str, Any] = {kind: found[start : start + size], "total_size": len(found)}
        if start + size < len(found):
            page["next_page_token"] = str(start + size)
        return page

    def _add(self, items: dict[str, dict[str, Any]], key: str, item: dict[str, Any]) -> str:
        number = next(self._numbers)
        name = f"{key.removesuffix('_id')}-{number if self.numbers_per_second == 1 else secrets.token_hex(6)}"
        created = (STARTED + timedelta(seconds=number // self.numbers_per_second)).isoformat().replace("+00:00", "Z")
        items[name] = item | {key: name, "created_at": created}
        return name

    def _count_enabled(self) -> None:
        for name in {item["display_name"] for item in self.schedules.values()}:
            enabled = sum(item["mode"] == "ENABLE" for item in self.named(name))
            self.max_enabled[name] = max(enabled, self.max_enabled.get(name, 0))


def _get(items: dict[str, dict[str, Any]], key: str) -> dict[str, Any]:
    if key not in items:
        raise Refusal(404, f"{key} not found")
    return items[key]


def _uploaded_file(body: bytes, headers: Any) -> tuple[str, str]:
    """Name and content of the file in a multipart request."""
    head = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    for part in message.iter_parts():  # type: ignore[attr-defined]
        if part.get_param("name", header="content-disposition") == "uploadfile":
            return str(part.get_filename()), part.get_payload(decode=True).decode()
    raise Refusal(400, "no uploadfile")
