"""The KFP face of `snapshot_model`."""

from kfp import dsl

from components.shared.kfp_step import step


@step
def snapshot_model(
    model: str,
    revision: str,
    workspace: str,
    system_prompt: str,
    judge_url: str,
    judge_model: str,
    snapshot: dsl.Output[dsl.Model],
) -> None:
    """Bring the base model into the workspace, verified; once; and a model that judges on the GPU."""
    import json
    from pathlib import Path

    from components.shared.step import run_step

    report = run_step(
        "snapshot_model",
        model=model,
        revision=revision,
        workspace=Path(workspace),
        note=Path(snapshot.path),
        system_prompt=system_prompt,
        judge_url=judge_url,
        judge_model=judge_model,
    )
    note = json.loads(Path(snapshot.path).read_text(encoding="utf-8"))
    snapshot.metadata.update({name: value for name, value in note.items() if name != "judge"})
    snapshot.metadata["source"] = report.source
    snapshot.metadata["is_current"] = report.is_current
    snapshot.metadata["files"] = report.files
    snapshot.metadata["bytes"] = report.bytes
    snapshot.metadata["reused_bytes"] = report.reused_bytes
    snapshot.metadata["seconds"] = report.seconds
    snapshot.metadata["card"] = report.card
