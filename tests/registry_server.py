"""A model registry on this machine, as far as publishing needs it: models, versions and artifacts of its API v1alpha3.

with RegistryServer() as registry:
    ...  # registry.url, registry.models, registry.versions, registry.artifacts
"""

import re
from pathlib import Path
from typing import Any

from tests.http_server import Answer, HttpServer, Request

API = "/api/model_registry/v1alpha3"
WRITABLE = {
    "models": {"name", "owner", "description", "customProperties", "state"},
    "versions": {"name", "author", "description", "customProperties", "state", "registeredModelId"},
    "artifacts": {"name", "uri", "modelFormatName", "modelFormatVersion", "artifactType", "state", "customProperties"},
}
"""Fields that may be sent; any other is refused, as the server's strict reader does."""


class RegistryServer(HttpServer):
    """Keeps what it is given."""

    def __init__(self, *, status: int = 0, fails_after: int = 0, certificate: Path | None = None) -> None:
        super().__init__(certificate)
        self.status = status
        """What every request is answered with; 0: as it should be."""
        self.fails_after = fails_after
        """The first so many writes succeed, and the next one fails; 0: none fails."""
        self.models: list[dict[str, Any]] = []
        self.versions: list[dict[str, Any]] = []
        self.artifacts: list[dict[str, Any]] = []
        self.writes = 0

    @property
    def authorizations(self) -> set[str]:
        return {request.authorization for request in self.requests}

    def answer(self, request: Request) -> Answer:
        path = request.path.removeprefix(API)
        if request.method == "GET":
            found, good, bad = self.get(path, request.query), 200, 404
        elif self.fails_after and self.writes == self.fails_after:
            found, good, bad = None, 201, 500
            self.fails_after = 0
        else:
            self.writes += 1
            found, good, bad = self.post(path, request.json()), 201, 400
        status = self.status or (bad if found is None else good)
        return Answer.of_json({"code": str(status), "message": "no"} if found is None or self.status else found, status)

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
