"""Steps of the compiled pipeline, run as KFP's launcher runs them: its command, and an executor input in its form."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from pipeline.compile import COMPILED
from tests.images.buildah import USER, Container

WORKSPACE = "/mnt/osft"  # the cluster file's mount path
STORE = "minio"  # the launcher keeps an artifact minio://bucket/key in /minio/bucket/key
DATA = """question,response,faithfulness_judgment
What colour is the sash?,The sash is crimson.,YES
Which bird is it?,It is the heron.,YES
Who answers?,The master answers every question.,YES
How many?,Twelve.,NO
"""
GAPS = """question,reference,rag
Tell me the colour of the sash.,crimson,wrong
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """What pods share: the workspace volume and the object store, here two folders."""

    workspace: Path
    store: Path
    outputs: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """What each step that ran has written for KFP."""

    @classmethod
    def create(cls, folder: Path, model: Path) -> "Cluster":
        """A workspace with a model and data, owned as a volume's files are."""
        workspace, store = folder / "workspace", folder / "store"
        shutil.copytree(model, workspace / "tiny")
        (workspace / "qa.csv").write_text(DATA, encoding="utf-8")
        (workspace / "gaps.csv").write_text(GAPS, encoding="utf-8")
        store.mkdir()
        own(folder)
        return cls(workspace=workspace, store=store)

    def run(self, container: Container, step: str, **inputs: Any) -> dict[str, Any]:
        """Run a step; gives its executor output.

        Args:
            inputs: values of parameters; for an artifact the name of the step whose output of this name it is.
        """
        spec = yaml.safe_load(COMPILED.read_text(encoding="utf-8").split("\n---\n")[0])
        label = f"comp-{step.replace('_', '-')}"
        component = spec["components"][label]
        command = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        given = self._executor_input(component, step, inputs)
        arguments = [text.replace("{{$}}", json.dumps(given)) for text in command["args"]]
        volumes = {self.workspace: WORKSPACE, self.store: f"/{STORE}"}
        print(f"\n{step}:", container.run(*command["command"], *arguments, volumes=volumes).stdout)
        written = self._path(given["outputs"]["outputFile"]).read_text(encoding="utf-8")
        self.outputs[step] = json.loads(written)
        return self.outputs[step]

    def plan_for_the_cpu(self) -> None:
        """Change the plan for a GPU, which the steps would ask for and not find here, to one for the processor."""
        path = self._path(f"/{STORE}/pipelines/plan_training/plan")
        plan = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**plan, "gpu_memory_gib": 0.0}), encoding="utf-8")

    def _executor_input(self, component: dict[str, Any], step: str, inputs: dict[str, Any]) -> dict[str, Any]:
        takes, gives = component.get("inputDefinitions", {}), component.get("outputDefinitions", {})
        artifacts = {name: self._artifact(name, inputs.pop(name)) for name in takes.get("artifacts", {})}
        assert set(inputs) == set(takes.get("parameters", {})), "a step takes exactly these parameters"
        folder = f"/{STORE}/pipelines/{step}"
        self._path(folder).mkdir(parents=True)
        made = {
            name: {
                "artifacts": [
                    {"name": name, "type": one["artifactType"], "uri": uri(f"{folder}/{name}"), "metadata": {}}
                ]
            }
            for name, one in gives.get("artifacts", {}).items()
        }
        own(self.store)
        return {
            "inputs": {"parameterValues": inputs, "artifacts": artifacts},
            "outputs": {
                "parameters": {name: {"outputFile": f"{folder}/{name}"} for name in gives.get("parameters", {})},
                "artifacts": made,
                "outputFile": f"{folder}/executor_output.json",
            },
        }

    def _artifact(self, name: str, step: str) -> dict[str, Any]:
        return {"artifacts": self.outputs[step]["artifacts"][name]["artifacts"]}

    def _path(self, place: str) -> Path:
        return self.store / Path(place).relative_to(f"/{STORE}")


def uri(place: str) -> str:
    """/minio/bucket/key as minio://bucket/key"""
    return place.replace(f"/{STORE}/", f"{STORE}://", 1)


def own(folder: Path) -> None:
    """Give everything to the steps' user."""
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, USER, 0)
