"""The KFP face of `compare`."""

from kfp import dsl

from components.shared.kfp_step import step


@step
def compare(
    plans: dsl.Input[dsl.Artifact],
    outcomes: dsl.Input[dsl.Artifact],
    workspace: str,
    report: dsl.Output[dsl.HTML],
    runs: dsl.Output[dsl.Artifact],
    tests: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    adapted: dsl.Output[dsl.Model],
    plan: dsl.Output[dsl.Artifact],
) -> bool:
    """Put a sweep's runs side by side and choose the one to publish. True when one passes the gate."""
    from pathlib import Path

    from components.shared.step import run_step

    found = run_step(
        "compare",
        plans=Path(plans.path),
        outcomes=Path(outcomes.path),
        workspace=Path(workspace),
        page=Path(report.path),
        runs=Path(runs.path),
        tests=Path(tests.path),
        adapted=Path(adapted.path),
        plan=Path(plan.path),
    )
    adapted.metadata.update(found.note)
    for name, value in found.metrics.items():
        metrics.log_metric(name, value)
    return bool(found.best)
