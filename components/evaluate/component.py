"""The KFP face of `evaluate`."""

from kfp import dsl

from components.shared.kfp_step import step


@step
def evaluate(
    dataset: dsl.Input[dsl.Dataset],
    snapshot: dsl.Input[dsl.Model],
    adapted: dsl.Input[dsl.Model],
    plan: dsl.Input[dsl.Artifact],
    workspace: str,
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
) -> bool:
    """Ask base and adapted model the same questions and write the report. True when the model is good."""
    from pathlib import Path

    from components.shared.step import run_step

    found = run_step(
        "evaluate",
        dataset=Path(dataset.path),
        snapshot=Path(snapshot.path),
        adapted=Path(adapted.path),
        plan=Path(plan.path),
        workspace=Path(workspace),
        page=Path(report.path),
        summary=Path(summary.path),
    )
    for name, value in found.metrics.items():
        metrics.log_metric(name, value)
    return found.good
