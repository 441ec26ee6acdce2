"""The KFP face of `evaluate`."""

from kfp import dsl

from components.kfp_step import step


@step
def evaluate(
    dataset: dsl.Input[dsl.Dataset],
    snapshot: dsl.Input[dsl.Model],
    adapted: dsl.Input[dsl.Model],
    plan: dsl.Input[dsl.Artifact],
    workspace: str,
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Ask base and adapted model the same questions and write the report."""
    from pathlib import Path

    from components.evaluate import core
    from components.progress import run_step

    summary = run_step(
        "evaluate",
        core.evaluate,
        dataset=Path(dataset.path),
        snapshot=Path(snapshot.path),
        adapted=Path(adapted.path),
        plan=Path(plan.path),
        workspace=Path(workspace),
        page=Path(report.path),
    )
    for name, value in summary.metrics().items():
        metrics.log_metric(name, value)
