"""The graphs as the YAML that a platform team imports: `osft`, and `osft-sweep` for several settings."""

import tempfile
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler

from components.shared.problems import problem
from components.shared.storage import write_output
from pipeline.graph import build, build_sweep
from pipeline.settings import ClusterSettings

RUN, SWEEP = "osft", "osft-sweep"
GRAPHS = {RUN: build, SWEEP: build_sweep}
"""The pipelines, by name."""
COMMITTED = {name: Path(__file__).parent / "compiled" / f"{name}.yaml" for name in GRAPHS}
COMPILED = COMMITTED[RUN]
UPDATE_COMMAND = "osft-pipeline compile"
# What all attempts of a step together may wait for a node, a quota or an image: Argo counts that as well.
WAITING_SECONDS = 7 * 24 * 3600


def compile_documents(settings: ClusterSettings, name: str = RUN) -> list[Any]:
    """A pipeline's IR and its platform settings."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(GRAPHS[name](settings), str(path))
        documents: list[Any] = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    _mend_retries(documents[0], documents[1])
    return documents


def compiled_yaml(settings: ClusterSettings, name: str = RUN) -> str:
    """A pipeline's IR and its platform settings: two YAML documents."""
    documents = compile_documents(settings, name)
    header = f"# Compiled by `{UPDATE_COMMAND}`; not to be edited.\n"
    return header + yaml.safe_dump_all(documents, sort_keys=True, width=120, allow_unicode=True)


def write_compiled(settings: ClusterSettings, output: Path, name: str = RUN) -> None:
    """Write a compiled pipeline, whole or not at all. Raises Problems when it cannot be written."""
    write_output(output, compiled_yaml(settings, name))


def check_compiled(settings: ClusterSettings, committed: Path, name: str = RUN) -> None:
    """Compare a committed pipeline with what the code gives now. Raises Problems when they differ."""
    if not committed.is_file() or committed.read_bytes() != compiled_yaml(settings, name).encode():
        raise problem(
            "the compiled pipeline is stale",
            where=str(committed),
            rule="it is what the code and the cluster file give",
            remedy=f"run: {UPDATE_COMMAND}",
        )


def _mend_retries(pipeline: dict[str, Any], platform: dict[str, Any]) -> None:
    """Let every retry happen: the SDK writes backoffMaxDuration 3600s whatever is asked for, and Argo counts that from
    when the first attempt was made, running or not: after it no attempt is made, and a later one's pod ends with it.
    How long one attempt may run is bounded by its pod's own deadline."""
    timeouts = {
        name: int(executor["activeDeadlineSeconds"])
        for name, executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items()
    }
    executor_of = {name: component.get("executorLabel") for name, component in pipeline["components"].items()}
    dags = [pipeline["root"]["dag"], *(c["dag"] for c in pipeline["components"].values() if "dag" in c)]
    for task in (task for dag in dags for task in dag["tasks"].values() if "retryPolicy" in task):
        policy = task["retryPolicy"]
        timeout = timeouts[executor_of[task["componentRef"]["name"]]]
        policy["backoffMaxDuration"] = f"{timeout * (int(policy['maxRetryCount']) + 1) + WAITING_SECONDS}s"
