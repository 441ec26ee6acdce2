"""A KFP API as kfp.Client sees it, on this machine: keeps state, enforces the API's rules, fails on demand.

with KfpServer() as server:
    ...  # --host server.url; then look at server.pipelines, server.runs, server.schedules

What a cluster does besides is played by the test: `story` is what a run reports, poll after poll; `faults` are answers
that come in place of the right one; `fire` starts a run of a schedule, as the controller does when its time has come.
"""

import dataclasses
import email.parser
import email.policy
import itertools
import json
import re
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.kfp_fields import unknown_fields

API = "/apis/v2beta1"
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


@dataclasses.dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    authorization: str


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message


class KfpServer:
    """Serves the API on a free port of 127.0.0.1."""

    def __init__(self, *, token: str = "", multi_user: bool = False, certificate: Path | None = None) -> None:
        self.token = token
        self.multi_user = multi_user
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.schedules: dict[str, dict[str, Any]] = {}
        self.killed: list[str] = []
        """Runs that had not ended when their schedule was deleted."""
        self.most_enabled: dict[str, int] = {}
        """How many schedules of a name were enabled at once, at most."""
        self.story: list[dict[str, Any]] = []
        """What the next looks at a run find, one after the other; the last one stays."""
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.late_run = False
        """A schedule has just started a run when it is disabled; it appears in the list of runs a moment later."""
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.kfp = self  # type: ignore[attr-defined]
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "KfpServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

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

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes, headers: Any) -> dict[str, Any]:
        """Carry a request out.

        Raises:
            Refusal: when the API would.
        """
        if path.endswith("/datasciencepipelinesapplications"):  # of the cluster's own API
            return {"items": [{"status": {"components": {"apiServer": {"externalUrl": self.url}}}}]}
        parts = [unquote(part) for part in path.removeprefix(f"{API}/").split("/")]
        match (method, parts):
            case "GET", ["healthz"]:
                return {"multi_user": self.multi_user}
            case "GET", ["pipelines"]:
                return self._page("pipelines", self.pipelines, query)
            case "POST", ["pipelines"]:
                return self._create_pipeline(json.loads(body))
            case "POST", ["pipelines", "upload_version"]:
                return self._upload_version(query, body, headers)
            case "GET", ["pipelines", pipeline_id, "versions"]:
                own = {key: item for key, item in self.versions.items() if item["pipeline_id"] == pipeline_id}
                return {"pipeline_versions": (page := self._page("versions", own, query)).pop("versions", [])} | page
            case "GET", ["experiments"]:
                return self._page("experiments", self.experiments, query)
            case "POST", ["experiments"]:
                given = json.loads(body)
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
        name = f"{key.removesuffix('_id')}-{number}"
        created = (STARTED + timedelta(seconds=number)).isoformat().replace("+00:00", "Z")
        items[name] = item | {key: name, "created_at": created}
        return name

    def _count_enabled(self) -> None:
        for name in {item["display_name"] for item in self.schedules.values()}:
            enabled = sum(item["mode"] == "ENABLE" for item in self.named(name))
            self.most_enabled[name] = max(enabled, self.most_enabled.get(name, 0))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one packet

    @property
    def kfp(self) -> KfpServer:
        return self.server.kfp  # type: ignore[attr-defined, no-any-return]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        query = dict(parse_qsl(address.query))
        authorization = self.headers.get("Authorization", "")
        with self.kfp.lock:
            self.kfp.requests.append(Request(self.command, address.path, query, authorization))
            fault = self._fault(address.path)
            if fault is None or fault.after_deed or fault.status == 0:
                answer = self._answer(address.path, query, body, authorization)
        if fault is not None:
            time.sleep(fault.delay_seconds)
            if fault.breaks_off:
                self.close_connection = True
                return
            if fault.status:
                self._send(fault.status, fault.body, {"Content-Type": fault.content_type} | fault.headers)
                return
        self._send(*answer)

    do_POST = do_DELETE = do_GET

    def _answer(
        self, path: str, query: dict[str, str], body: bytes, authorization: str
    ) -> tuple[int, bytes, dict[str, str]]:
        try:
            if self.kfp.token and authorization != f"Bearer {self.kfp.token}":
                raise Refusal(401, "Unauthorized")
            status, answer = 200, self.kfp.answer(self.command, path, query, body, self.headers)
        except Refusal as refusal:
            status, answer = refusal.status, {"error": refusal.message, "message": refusal.message, "code": 1}
        return status, json.dumps(answer).encode(), {"Content-Type": "application/json"}

    def _fault(self, path: str) -> Fault | None:
        for fault in self.kfp.faults:
            if fault.times and fault.path in path and fault.method in ("", self.command):
                fault.times -= 1
                return fault
        return None

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are remembered, not printed."""


def _get(items: dict[str, dict[str, Any]], key: str) -> dict[str, Any]:
    if key not in items:
        raise Refusal(404, f"{key} not found")
    return items[key]


def _uploaded_file(body: bytes, headers: Any) -> tuple[str, str]:
    """Name and content of the file in a multipart request."""
    head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    for part in message.iter_parts():  # type: ignore[attr-defined]
        if part.get_param("name", header="content-disposition") == "uploadfile":
            return str(part.get_filename()), part.get_payload(decode=True).decode()
    raise Refusal(400, "no uploadfile")
