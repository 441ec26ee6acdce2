"""The compiled pipeline as objects for GitOps: a Pipeline, and a PipelineVersion that holds the compiled YAML.

    osft-pipeline compile --cluster my-cluster.toml -o pipeline.yaml
    osft-pipeline release pipeline.yaml manifests/overlays/prod/pipeline.yaml

and `pipeline.yaml` among the overlay's resources. For a pipelines server with `pipelineStore: kubernetes`
(manifests/components/pipelines-server). A version's spec cannot be changed on the cluster, so its name holds the
content's digest, as `osft-pipeline upload` names it, too: other content is another object, the same content the same.
"""

from pathlib import Path
from typing import Any

import yaml

from components.shared.storage import write_output
from pipeline.cluster.compiled_file import check_images, read_pipeline

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
    """The two objects of a pipeline that `osft-pipeline compile` wrote. Raises Problems when the file is no compiled
    pipeline."""
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


def write_release(compiled: Path, output: Path) -> str:
    """Write the objects of a compiled pipeline; gives the version's name. Raises Problems when the file is no compiled
    pipeline, has placeholders for images, or the output cannot be written."""
    check_images(read_pipeline(compiled))
    objects = objects_of(compiled)
    header = "# Made by `osft-pipeline release`; not to be edited.\n"
    write_output(output, header + yaml.safe_dump_all(objects, sort_keys=True, width=120, allow_unicode=True))
    return str(objects[1]["metadata"]["name"])
