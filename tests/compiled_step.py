"""A step of the compiled pipeline as KFP starts it: the container's own command, and what a driver tells it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from pipeline.compile import COMPILED


def run_compiled(
    step: str, folder: Path, parameters: dict[str, Any], environment: dict[str, str], **artifacts: Path
) -> subprocess.CompletedProcess[str]:
    """Run a step.

    Args:
        folder: where its outputs go.
        parameters: its parameters by name.
        environment: variables that it gets over those of this process.
        artifacts: where its input artifacts lie, by name.
    """
    pipeline = next(yaml.safe_load_all(COMPILED.read_text(encoding="utf-8")))
    container = pipeline["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
    outputs = pipeline["components"][f"comp-{step}"].get("outputDefinitions", {}).get("artifacts", {})
    given = {
        "inputs": {"parameterValues": parameters, "artifacts": _artifacts(artifacts)},
        "outputs": {
            "artifacts": _artifacts({name: folder / name for name in outputs}),
            "outputFile": str(folder / "out.json"),
        },
    }
    command = [*container["command"], *container["args"][:1], json.dumps(given), *container["args"][2:]]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        capture_output=True, text=True, check=False, cwd=COMPILED.parents[2],
        env={**os.environ, "PATH": path, **environment},
    )  # fmt: skip


def _artifacts(paths: dict[str, Path]) -> dict[str, Any]:
    kind = {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}
    return {
        name: {"artifacts": [{"name": name, "type": kind, "uri": str(path), "metadata": {}}]}
        for name, path in paths.items()
    }
