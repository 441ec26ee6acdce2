"""The KFP face of `train_osft`."""

from kfp import dsl

from components.shared.kfp_step import step


@step
def train_osft(
    dataset: dsl.Input[dsl.Dataset],
    snapshot: dsl.Input[dsl.Model],
    plan: dsl.Input[dsl.Artifact],
    workspace: str,
    adapted: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Train the base model with OSFT as planned."""
    from pathlib import Path

    from components.models.reference import refer_to
    from components.shared.step import run_step
    from components.shared.workspace import TRAINING_REPORT

    report = run_step(
        "train_osft",
        dataset=Path(dataset.path),
        snapshot=Path(snapshot.path),
        plan=Path(plan.path),
        workspace=Path(workspace),
    )
    reference = refer_to(
        Path(report.path), TRAINING_REPORT, Path(workspace), commit=report.plan.model_commit, run_key=report.run_key
    )
    reference.write(Path(adapted.path))
    adapted.metadata.update(vars(reference))
    metrics.log_metric("loss_first", report.loss_first)
    metrics.log_metric("loss_last", report.loss_last)
    metrics.log_metric("steps", report.steps)
    metrics.log_metric("tokens_per_second", report.tokens_per_second)
    metrics.log_metric("peak_memory_gib", report.peak_memory_gib)
    metrics.log_metric("training_seconds", report.training_seconds)
