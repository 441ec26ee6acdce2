"""What KFP's driver does before a task: its inputs are resolved, its outputs get their places, its condition is asked.

The rules are those of KFP 2.16.1 (backend/src/v2/driver); 2.14.3 differs in the place of the executor's output file.

- A parameter comes from the DAG, from another task, or is a constant; values travel as JSON through protobuf, which
  has one kind of number: 2.0 arrives as 2.
- An artifact is handed on with the uri and the metadata that ML Metadata holds.
- An output artifact lies under ROOT/PIPELINE/RUN/TASK/UUID/NAME. The executor's whole output is one of them, named
  `executor-logs`.
- A task under a condition runs when the compiled comparison holds. The exit handler's task runs when the others have
  ended, however they did, and gets a final status that says little: RUNNING for a run that succeeded.
"""

import dataclasses
import re
import uuid
from collections.abc import Mapping
from typing import Any

CONDITION = re.compile(r"inputs\.parameter_values\['(?P<name>[^']+)'\] == true")
AFTER_ALL = "ALL_UPSTREAM_TASKS_COMPLETED"
LOGS = "executor-logs"
MAX_PLAIN = 1e21  # from here on protobuf's JSON writes an exponent, and Python reads a float

Artifact = dict[str, Any]
"""KFP's RuntimeArtifact as JSON: name, type, uri, metadata."""


class BackendError(Exception):
    """What KFP's driver or launcher would end the task with; the text is theirs where they have one."""


@dataclasses.dataclass(kw_only=True)
class Outputs:
    """What a task that succeeded hands on."""

    parameters: dict[str, Any]
    artifacts: dict[str, Artifact]


@dataclasses.dataclass(kw_only=True)
class Dag:
    """A DAG that runs: what it was given, and what its tasks have made."""

    parameters: dict[str, Any]
    artifacts: dict[str, Artifact]
    tasks: dict[str, Outputs] = dataclasses.field(default_factory=dict)


def as_protobuf(value: Any) -> Any:
    """A JSON value after it was a protobuf Value."""
    if isinstance(value, Mapping):
        return {name: as_protobuf(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_protobuf(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < MAX_PLAIN else value


def resolve_inputs(
    task: Mapping[str, Any], component: Mapping[str, Any], dag: Dag, run_name: str
) -> tuple[dict[str, Any], dict[str, Artifact]]:
    """A task's parameters, its component's defaults among them, and its artifacts. Raises BackendError when one comes
    from where there is none."""
    inputs = task.get("inputs", {})
    parameters = {
        name: _parameter(name, source, dag, run_name) for name, source in inputs.get("parameters", {}).items()
    }
    for name, definition in component.get("inputDefinitions", {}).get("parameters", {}).items():
        if name not in parameters and "defaultValue" in definition:
            parameters[name] = as_protobuf(definition["defaultValue"])
    return parameters, {name: _artifact(name, source, dag) for name, source in inputs.get("artifacts", {}).items()}


def will_trigger(task: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Whether a task's condition holds; one without a condition always runs. Raises BackendError for any other
    comparison than the one that this pipeline compiles to."""
    condition = task.get("triggerPolicy", {}).get("condition", "")
    if not condition:
        return True
    match = CONDITION.fullmatch(condition)
    if match is None:
        raise BackendError(f"failed to evaluate the condition {condition}")
    return parameters[match["name"]] is True


def provision_outputs(component: Mapping[str, Any], task_root: str) -> dict[str, Any]:
    """Where a task's outputs go, as the executor gets it."""
    defined = component.get("outputDefinitions", {})
    kinds = {name: item["artifactType"] for name, item in defined.get("artifacts", {}).items()}
    kinds[LOGS] = {"schemaTitle": "system.Artifact"}
    return {
        "artifacts": {
            name: {"artifacts": [{"name": name, "type": kind, "uri": f"{task_root}/{name}"}]}
            for name, kind in kinds.items()
        },
        "parameters": {name: {"outputFile": f"/tmp/kfp/outputs/{name}"} for name in defined.get("parameters", {})},  # noqa: S108 - a pod's own
        "outputFile": f"{task_root}/output_metadata.json",
    }


def task_root(pipeline_root: str, pipeline: str, run_id: str, task: str) -> str:
    """The uri below which a task's outputs lie; another one for each attempt."""
    return f"{pipeline_root}/{pipeline}/{run_id}/{task}/{uuid.uuid4()}"


def _parameter(name: str, source: Mapping[str, Any], dag: Dag, run_name: str) -> Any:
    if "componentInputParameter" in source:
        found = source["componentInputParameter"]
        if found not in dag.parameters:
            raise BackendError(f"resolving input parameter {name}: parent DAG does not have input parameter {found}")
        return dag.parameters[found]
    if "taskOutputParameter" in source:
        made = dag.tasks[source["taskOutputParameter"]["producerTask"]].parameters
        key = source["taskOutputParameter"]["outputParameterKey"]
        if key not in made:
            raise BackendError(f"resolving input parameter {name}: the task made no output parameter {key}")
        return made[key]
    if "taskFinalStatus" in source:
        return {
            "state": "RUNNING",
            "pipelineTaskName": source["taskFinalStatus"]["producerTask"],
            "pipelineJobResourceName": run_name,
            "error": {},
        }
    return as_protobuf(source["runtimeValue"]["constant"])


def _artifact(name: str, source: Mapping[str, Any], dag: Dag) -> Artifact:
    if "componentInputArtifact" in source:
        return dag.artifacts[source["componentInputArtifact"]]
    made = dag.tasks[source["taskOutputArtifact"]["producerTask"]].artifacts
    key = source["taskOutputArtifact"]["outputArtifactKey"]
    if key not in made:
        raise BackendError(f"failed to resolve input artifact {name}: cannot find output artifact {key}")
    return made[key]
