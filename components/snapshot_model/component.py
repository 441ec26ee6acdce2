"""The KFP face of `snapshot_model`."""

from kfp import dsl

from components.shared.kfp_step import step


@step
def snapshot_model(model: str, revision: str, workspace: str, snapshot: dsl.Output[dsl.Model]) -> None:
    """Bring the base model into the workspace, verified; once."""
    from pathlib import Path

    from components.shared.step import run_step

    report = run_step("snapshot_model", model=model, revision=revision, workspace=Path(workspace))
    snapshot.uri = str(report.path)  # stays in the workspace: a path is not uploaded to the object store
    snapshot.metadata["source"] = report.source
    snapshot.metadata["commit"] = report.commit
    snapshot.metadata["is_current"] = report.is_current
    snapshot.metadata["files"] = report.files
    snapshot.metadata["bytes"] = report.bytes
    snapshot.metadata["reused_bytes"] = report.reused_bytes
    snapshot.metadata["seconds"] = report.seconds
    snapshot.metadata["card"] = report.card
