"""The compiled graph on this machine: KFP's driver and launcher by their rules, steps as processes, no containers.

What runs is the very form that a cluster imports. Not done here: retries, deadlines, resources, and steps that work at
the same time.
"""

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from components.shared.records import RUN_VARIABLE
from components.shared.storage import write_json
from pipeline.local.driver import (
    AFTER_ALL,
    Artifact,
    BackendError,
    Dag,
    Outputs,
    as_protobuf,
    provision_outputs,
    resolve_inputs,
    task_root,
    will_trigger,
)
from pipeline.local.launcher import ObjectStore, Pod, StepExited, launch
from pipeline.local.processes import StepProcesses
from pipeline.placement import PLACES

PIPELINE_ROOT = "minio://mlpipeline/v2/artifacts"
METADATA = "metadata.json"  # in the run's folder: what ML Metadata would hold of it, by task
ORDER = [step.replace("_", "-") for step in PLACES]


@dataclasses.dataclass(kw_only=True)
class LocalRun:
    """A run of a compiled pipeline.

    Args:
        pipeline: its IR, the first of the compiled documents.
        folder: where the object store and the pods go; its name is the run's id.
        processes: what runs the steps.
        show: gets each line that a step prints.
    """

    pipeline: dict[str, Any]
    folder: Path
    processes: StepProcesses
    show: Callable[[str], None]
    made: dict[str, Outputs] = dataclasses.field(default_factory=dict)
    """What each step handed on, by its task's name."""

    def run(self, parameters: Mapping[str, Any]) -> None:
        """Run the whole graph. Raises BackendError when KFP's driver or launcher would end a task, and StepExited when
        a step failed."""
        defaults = {
            name: as_protobuf(item["defaultValue"])
            for name, item in self.pipeline["root"]["inputDefinitions"]["parameters"].items()
            if "defaultValue" in item
        }
        self._run_dag(self.pipeline["root"]["dag"], Dag(parameters=defaults | as_protobuf(parameters), artifacts={}))

    def _run_dag(self, specification: Mapping[str, Any], dag: Dag) -> None:
        tasks: dict[str, Any] = dict(specification["tasks"])
        last = {name: tasks.pop(name) for name, task in list(tasks.items()) if _runs_after_all(task)}
        failure: StepExited | BackendError | None = None
        try:
            for name in _in_order(tasks):
                self._run_task(name, tasks[name], dag)
        except (StepExited, BackendError) as error:
            failure = error
        for name, task in last.items():
            self._run_task(name, task, dag)
        if failure:
            raise failure

    def _run_task(self, name: str, task: Mapping[str, Any], dag: Dag) -> None:
        component = self.pipeline["components"][task["componentRef"]["name"]]
        parameters, artifacts = resolve_inputs(task, component, dag, self.folder.name)
        if not will_trigger(task, parameters):
            return
        if "dag" in component:
            self._run_dag(component["dag"], Dag(parameters=parameters, artifacts=artifacts))
        else:
            dag.tasks[name] = self._run_step(name, component, parameters, artifacts)

    def _run_step(
        self, task: str, component: Mapping[str, Any], parameters: dict[str, Any], artifacts: dict[str, Artifact]
    ) -> Outputs:
        container = self.pipeline["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        root = task_root(PIPELINE_ROOT, self.pipeline["pipelineInfo"]["name"], self.folder.name, task)
        executor_input = {
            "inputs": {
                "parameterValues": parameters,
                "artifacts": {name: {"artifacts": [artifact]} for name, artifact in artifacts.items()},
            },
            "outputs": provision_outputs(component, root),
        }
        pod = Pod.make(self.folder / "pods" / root.rsplit("/", 1)[1])
        *_, program = container["command"]
        environment = {item["name"]: item["value"] for item in container.get("env", [])}
        environment[RUN_VARIABLE] = self.folder.name

        def execute(given: dict[str, Any], log: Path) -> int:
            return self.processes.run(program, container["args"][-1], given, pod.root, environment, log, self.show)

        defined = component.get("outputDefinitions", {}).get("parameters", {})
        made = self.made[task] = launch(executor_input, defined, pod, self.store, execute)
        shutil.rmtree(pod.root)
        write_json(self.folder / METADATA, {name: vars(outputs) for name, outputs in self.made.items()})
        return made

    def path_of(self, task: str, artifact: str) -> Path:
        """Where a task's artifact lies."""
        return self.store.path_of(self.made[task].artifacts[artifact]["uri"])

    @property
    def store(self) -> ObjectStore:
        return ObjectStore(folder=self.folder / "store")


def _runs_after_all(task: Mapping[str, Any]) -> bool:
    return bool(task.get("triggerPolicy", {}).get("strategy") == AFTER_ALL)


def _in_order(tasks: Mapping[str, Any]) -> Iterator[str]:
    """The tasks' names, each after those it depends on; else as placement.py lists the steps."""
    left = sorted(tasks, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    while left:
        ready = next(name for name in left if not set(tasks[name].get("dependentTasks", [])) & set(left))
        left.remove(ready)
        yield ready
