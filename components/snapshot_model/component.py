"""The KFP face of `snapshot_model`."""

from kfp import dsl

from components.shared.kfp_step import step


@step
def snapshot_model(model: str, revision: str, workspace: str, snapshot: dsl.Output[dsl.Model]) -> None:
    """Bring the base model into the workspace, verified; once."""
    from pathlib import Path

    from components.models.reference import refer_to
    from components.shared.step import run_step
    from components.shared.workspace import SNAPSHOT_MANIFEST

    report = run_step("snapshot_model", model=model, revision=revision, workspace=Path(workspace))
    reference = refer_to(report.path, SNAPSHOT_MANIFEST, Path(workspace), commit=report.commit)
    reference.write(Path(snapshot.path))
    snapshot.metadata.update(vars(reference))
    snapshot.metadata["source"] = report.source
    snapshot.metadata["is_current"] = report.is_current
    snapshot.metadata["files"] = report.files
    snapshot.metadata["bytes"] = report.bytes
    snapshot.metadata["reused_bytes"] = report.reused_bytes
    snapshot.metadata["seconds"] = report.seconds
    snapshot.metadata["card"] = report.card
