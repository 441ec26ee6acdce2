"""The KFP face of `publish`."""

from kfp import dsl

from components.shared.kfp_step import step


@step
def publish(
    adapted: dsl.Input[dsl.Model],
    plan: dsl.Input[dsl.Artifact],
    workspace: str,
    claim: str,
    registry: str,
    published: dsl.Output[dsl.Model],
) -> None:
    """Make a good model available, in the model registry where there is one."""
    import json
    from pathlib import Path

    from components.shared.step import run_step

    done = run_step(
        "publish",
        adapted=Path(adapted.path),
        plan=Path(plan.path),
        workspace=Path(workspace),
        claim=claim,
        registry=registry,
        note=Path(published.path),
    )
    published.metadata.update(json.loads(Path(published.path).read_text(encoding="utf-8")))
    published.metadata["name"] = done.name
    published.metadata["version"] = done.version
    published.metadata["servable_uri"] = done.uri
    published.metadata["registry_entry"] = done.entry
