"""What kustomize does, as far as the manifests use it: a key that is not understood is an error."""

from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]


def build(folder: Path) -> list[Object]:
    """The objects of a kustomization; a key that is not understood is an error."""
    return _apply(read_kustomization(folder), folder, [])


def read_kustomization(folder: Path) -> Object:
    content = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    known = {"apiVersion", "kind", "namespace", "resources", "components", "patches", "labels"}
    assert set(content) <= known, f"{folder}: {set(content) - known}"
    return content


def _apply(content: Object, folder: Path, objects: list[Object]) -> list[Object]:
    """Add a kustomization's resources and components to objects, and change all of them as it says."""
    for entry in content.get("resources", []):
        path = (folder / entry).resolve()
        objects += build(path) if path.is_dir() else read_objects(path)
    for entry in content.get("components", []):
        component = (folder / entry).resolve()
        objects = _apply(read_kustomization(component), component, objects)
    for patch in content.get("patches", []):
        targets = [
            found
            for found in objects
            if (found["kind"], found["metadata"]["name"]) == (patch["target"]["kind"], patch["target"]["name"])
        ]
        assert targets, f"{folder}: {patch['target']} is no object"
        for target in targets:
            _patch(target, yaml.safe_load(patch["patch"]))
    for found in objects:
        for labels in content.get("labels", []):
            assert set(labels) == {"pairs"}, "selectors must stay as they are written"
            found["metadata"].setdefault("labels", {}).update(labels["pairs"])
        if "namespace" in content:
            found["metadata"]["namespace"] = content["namespace"]
            for subject in found.get("subjects", []):
                subject["namespace"] = content["namespace"]
    return objects


def _patch(target: Object, operations: list[Object]) -> None:
    for operation in operations:
        assert operation["op"] == "replace"
        *path, last = operation["path"].strip("/").split("/")
        place = target
        for key in path:
            place = place[key]
        assert last in place, operation["path"]
        place[last] = operation["value"]


def read_objects(path: Path) -> list[Object]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
