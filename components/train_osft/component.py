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
    """Train the base model as planned."""
    import json
    from pathlib import Path

    from components.shared.step import run_step

    report = run_step(
        "train_osft",
        dataset=Path(dataset.path),
        snapshot=Path(snapshot.path),
        plan=Path(plan.path),
        workspace=Path(workspace),
        note=Path(adapted.path),
    )
    adapted.metadata.update(json.loads(Path(adapted.path).read_text(encoding="utf-8")))
    metrics.log_metric("loss_first", report.loss_first)
    metrics.log_metric("loss_last", report.loss_last)
    metrics.log_metric("steps", report.steps)
    metrics.log_metric("tokens_per_second", report.tokens_per_second)
    metrics.log_metric("peak_memory_gib", report.peak_memory_gib)
    metrics.log_metric("training_seconds", report.training_seconds)
