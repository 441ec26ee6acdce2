"""What KFP's launcher does with a task in its pod: artifacts come from the object store and go there.

The rules are those of KFP 2.16.1 (backend/src/v2/component/launcher_v2.go, backend/src/v2/metadata); 2.14.3 has the
same, but for `oci://`.

- An input artifact's uri is minio://, s3:// or gs://, or the task ends before its step starts. What lies there is
  copied to /minio, /s3 or /gcs, folders of the pod's own, which are empty at first.
- What the executor writes about an output artifact, its uri and metadata, goes over what the driver had.
- An output artifact's file or folder is uploaded when its uri is of the object store; else there is a warning and no
  upload. A file that is missing is no error, and found by whoever wants to read it.
- Metadata goes through ML Metadata: integers come back as floats, True as 1, a list as {"list": ...}, a dictionary
  as {"struct": ...}; None is an error after the work is done.
- An output parameter that is neither in the executor's output nor in its file is an error.
- All that a step prints is kept as the artifact `executor-logs`.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.local.driver import LOGS, Artifact, BackendError, Outputs, as_protobuf

# A uri's scheme, and the pod's folder that stands for it; the SDK has the same table.
MOUNTS = {"minio://": "minio", "s3://": "s3", "gs://": "gcs"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pod:
    """What a task has for itself on this machine: a folder that stands for the root of its file system."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> "Pod":
        """With KFP's folders, empty, and a /tmp of its own."""
        for name in (*MOUNTS.values(), "tmp"):
            (root / name).mkdir(parents=True)
        return cls(root=root)

    def path_of(self, uri: str) -> Path | None:
        """Where the SDK expects an artifact; None when it lies in no object store."""
        scheme, _, rest = uri.partition("://")
        folder = MOUNTS.get(f"{scheme}://")
        return self.root / folder / rest if folder and rest else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """A folder that holds what an object store would."""

    folder: Path

    def path_of(self, uri: str) -> Path:
        scheme, _, key = uri.partition("://")
        return self.folder / MOUNTS[f"{scheme}://"] / key

    def upload(self, source: Path, uri: str) -> None:
        _copy(source, self.path_of(uri))

    def download(self, uri: str, target: Path) -> None:
        """Raises BackendError when nothing lies there."""
        source = self.path_of(uri)
        if not source.exists():
            raise BackendError(f"failed to download input artifact from remote storage URI {uri!r}: nothing is there")
        _copy(source, target)


def launch(
    executor_input: dict[str, Any],
    defined_parameters: Mapping[str, Any],
    pod: Pod,
    store: ObjectStore,
    execute: Callable[[dict[str, Any], Path], int],
) -> Outputs:
    """Run a step's executor between download and upload; `execute` runs it with its input, writes what it prints to
    a file, and gives its exit code. Raises BackendError, with which the launcher ends the task, and StepExited when
    the executor ended with another code than 0."""
    _download(executor_input["inputs"]["artifacts"], pod, store)
    outputs = executor_input["outputs"]
    made = {name: entry["artifacts"][0] for name, entry in outputs["artifacts"].items()}
    given = executor_input | {"outputs": outputs | {"parameters": _own_files(outputs["parameters"], pod)}}
    output_file = pod.path_of(outputs["outputFile"])
    logs = pod.path_of(made[LOGS]["uri"])
    assert output_file
    assert logs
    given["outputs"]["outputFile"] = str(output_file)
    for artifact in made.values():
        path = pod.path_of(artifact["uri"])
        assert path
        path.parent.mkdir(parents=True, exist_ok=True)
    code = execute(given, logs)
    if code:
        store.upload(logs, made[LOGS]["uri"])
        raise StepExited(code)
    written = _read_output(output_file) if output_file.exists() else {}
    parameters = _parameters(written, given["outputs"]["parameters"], defined_parameters)
    for name, artifact in made.items():
        if name != LOGS:
            _merge(written.get("artifacts", {}).get(name, {}).get("artifacts", []), artifact)
        path = pod.path_of(artifact["uri"])
        if path is not None and path.exists():
            store.upload(path, artifact["uri"])
        artifact["metadata"] = as_metadata(artifact.get("metadata", {}), name)
    return Outputs(parameters=parameters, artifacts=made)


class StepExited(Exception):
    """A step's executor ended with an exit code; what it printed says why."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit status {code}" if code > 0 else f"signal {-code}")
        self.code = code


def as_metadata(values: Mapping[str, Any], artifact: str) -> dict[str, Any]:
    """An artifact's metadata as the next step gets it. Raises BackendError for None, of which ML Metadata has no
    kind."""
    if none := [name for name, value in values.items() if value is None]:
        raise BackendError(f"unable to produce MLMD artifact for output {artifact!r}: {none[0]} is null")
    kept: dict[str, Any] = {}
    for name, value in values.items():
        value = int(value) if isinstance(value, bool) else value
        wrapped = {"struct": value} if isinstance(value, Mapping) else {"list": value}
        kept[name] = as_protobuf(wrapped if isinstance(value, Mapping | list | tuple) else value)
    return kept


def _download(artifacts: Mapping[str, Any], pod: Pod, store: ObjectStore) -> None:
    for entry in artifacts.values():
        uri = entry["artifacts"][0]["uri"]
        path = pod.path_of(uri)
        if path is None:
            raise BackendError(
                f"failed to fetch non default buckets: parse bucket config failed: unrecognized uri format: {uri!r}"
            )
        store.download(uri, path)


def _read_output(file: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise BackendError(f"failed to unmarshall ExecutorOutput in file {str(file)!r}: {constant} is no JSON")

    return dict(json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse))


def _own_files(parameters: Mapping[str, Any], pod: Pod) -> dict[str, Any]:
    """The files of output parameters in the pod's own /tmp."""
    own = {name: {"outputFile": f"{pod.root}{item['outputFile']}"} for name, item in parameters.items()}
    for item in own.values():
        Path(item["outputFile"]).parent.mkdir(parents=True, exist_ok=True)
    return own


def _parameters(written: Mapping[str, Any], files: Mapping[str, Any], defined: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(written.get("parameterValues", {}))
    for name in defined:
        if name not in values:
            path = Path(files[name]["outputFile"])
            if not path.exists():
                raise BackendError(f"failed to read output parameter name={name!r}: no such file")
            values[name] = path.read_text(encoding="utf-8")
    return {name: as_protobuf(value) for name, value in values.items()}


def _merge(written: list[Artifact], artifact: Artifact) -> None:
    for said in written[:1]:
        artifact["uri"] = said.get("uri") or artifact["uri"]
        artifact["metadata"] = artifact.get("metadata", {}) | said.get("metadata", {})


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, target)
