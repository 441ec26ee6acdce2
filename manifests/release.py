"""The compiled pipeline as objects for GitOps: a Pipeline, and a PipelineVersion that holds the compiled YAML.

    osft-pipeline compile --cluster my-cluster.toml -o pipeline.yaml
    python -m manifests.release pipeline.yaml manifests/overlays/prod/pipeline.yaml

and `pipeline.yaml` among the overlay's resources. For a pipelines server with `pipelineStore: kubernetes`
(components/pipelines-server). A version's spec cannot be changed on the cluster, so its name holds the content's
digest, as `osft-pipeline upload` names it, too: other content is another object, the same content the same one.
"""

import argparse
from pathlib import Path
from typing import Any

import yaml

from components.problems import Problems
from components.storage import write_text
from pipeline.pipeline_file import read_pipeline

API_VERSION = "pipelines.kubeflow.org/v2beta1"
LABELS = {"app.kubernetes.io/part-of": "osft-pipeline"}
WAVE = "argocd.argoproj.io/sync-wave"
# A release takes the one before out of Git. It stays on the cluster, with the runs and schedules that point to it, and
# Argo CD does not call the application out of sync for that.
KEPT = {
    "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
    "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
}


def objects_of(compiled: Path) -> list[dict[str, Any]]:
    """The two objects of a pipeline that `osft-pipeline compile` wrote.

    Raises:
        Problems: when the file is no compiled pipeline.
    """
    pipeline = read_pipeline(compiled)
    spec, platform = yaml.safe_load_all(compiled.read_text(encoding="utf-8"))
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "Pipeline",
            "metadata": {"name": pipeline.name, "labels": LABELS, "annotations": KEPT | {WAVE: "1"}},
            # By its display name kfp finds a pipeline, and the command line the same one.
            "spec": {"displayName": pipeline.name, "description": spec["pipelineInfo"]["description"]},
        },
        {
            "apiVersion": API_VERSION,
            "kind": "PipelineVersion",
            # The second wave: a version is refused before its Pipeline is there.
            "metadata": {"name": pipeline.version, "labels": LABELS, "annotations": KEPT | {WAVE: "2"}},
            "spec": {
                "displayName": pipeline.version,
                "description": f"content sha256:{pipeline.digest}",
                "pipelineName": pipeline.name,
                "pipelineSpec": spec,
                "platformSpec": platform,
            },
        },
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m manifests.release",
        description="Write a compiled pipeline as Pipeline and PipelineVersion objects.",
    )
    parser.add_argument("compiled", type=Path, help="what osft-pipeline compile -o wrote")
    parser.add_argument("output", type=Path, help="file to write, among an overlay's resources")
    options = parser.parse_args()
    try:
        objects = objects_of(options.compiled)
    except Problems as error:
        raise SystemExit(f"error: {error}") from None
    header = "# Made by `python -m manifests.release`; not to be edited.\n"
    write_text(options.output, header + yaml.safe_dump_all(objects, sort_keys=True, width=120, allow_unicode=True))
    print(f"wrote {options.output}: {objects[1]['metadata']['name']}")


if __name__ == "__main__":
    main()
