"""A model registry on this machine, as far as publishing needs it: models, versions and artifacts of its API v1alpha3.

with RegistryServer() as registry:
    ...  # registry.url, registry.models, registry.versions, registry.artifacts
"""

import json
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/api/model_registry/v1alpha3"
WRITABLE = {
    "models": {"name", "owner", "description", "customProperties", "state"},
    "versions": {"name", "author", "description", "customProperties", "state", "registeredModelId"},
    "artifacts": {"name", "uri", "modelFormatName", "modelFormatVersion", "artifactType", "state", "customProperties"},
}
"""Fields that may be sent; any other is refused, as the server's strict reader does."""


class RegistryServer:
    """Keeps what it is given, on a free port of 127.0.0.1."""

    def __init__(self, *, status: int = 0, fails_after: int = 0, certificate: Path | None = None) -> None:
        self.status = status
        """What every request is answered with; 0: as it should be."""
        self.fails_after = fails_after
        """The first so many writes succeed, and the next one fails; 0: none fails."""
        self.models: list[dict[str, Any]] = []
        self.versions: list[dict[str, Any]] = []
        self.artifacts: list[dict[str, Any]] = []
        self.authorizations: set[str] = set()
        self.writes = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.registry = self  # type: ignore[attr-defined]
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "RegistryServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def get(self, path: str, query: dict[str, str]) -> Any:
        """An answer, or None for what is not there."""
        if path == "/registered_model":
            return self._one(self.models, name=query["name"])
        if path == "/model_version":
            return self._one(self.versions, name=query["name"], registeredModelId=query["parentResourceId"])
        if match := re.fullmatch(r"/model_versions/(\d+)/artifacts", path):
            items = [artifact for artifact in self.artifacts if artifact["version"] == match[1]]
            return {"items": items, "size": len(items), "pageSize": 100, "nextPageToken": ""}
        return None

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The new object; None when it must not be."""
        if path == "/registered_models":
            return self._add("models", body, unique=("name",))
        if path == "/model_versions":
            return self._add("versions", body, unique=("name", "registeredModelId"))
        if match := re.fullmatch(r"/model_versions/(\d+)/artifacts", path):
            return self._add("artifacts", body, version=match[1], artifactType="model-artifact")
        return None

    def _add(self, kind: str, body: dict[str, Any], unique: tuple[str, ...] = (), **own: str) -> Any:
        items: list[dict[str, Any]] = getattr(self, kind)
        if set(body) - WRITABLE[kind] or (unique and self._one(items, **{name: body[name] for name in unique})):
            return None
        items.append({**body, **own, "id": str(len(items) + 1)})
        return items[-1]

    @staticmethod
    def _one(items: list[dict[str, Any]], **values: str) -> Any:
        return next((item for item in items if all(item[name] == value for name, value in values.items())), None)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        self._answer(self._registry().get(address.path.removeprefix(API), query), 200, 404)

    def do_POST(self) -> None:
        registry = self._registry()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        registry.writes += 1
        if registry.fails_after and registry.writes > registry.fails_after:
            registry.fails_after = 0
            self._answer(None, 200, 500)
        else:
            self._answer(registry.post(urlsplit(self.path).path.removeprefix(API), body), 201, 400)

    def _registry(self) -> RegistryServer:
        registry: RegistryServer = self.server.registry  # type: ignore[attr-defined]
        registry.authorizations.add(self.headers.get("Authorization", ""))
        return registry

    def _answer(self, found: Any, good: int, bad: int) -> None:
        forced = self._registry().status
        status = forced or (bad if found is None else good)
        content = json.dumps({"code": str(status), "message": "no"} if found is None or forced else found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: the tests ask the registry."""
