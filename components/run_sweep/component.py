"""The KFP face of `run_sweep`."""

from kfp import dsl

from components.shared.kfp_step import step


@step
def run_sweep(
    dataset: dsl.Input[dsl.Dataset],
    snapshot: dsl.Input[dsl.Model],
    plans: dsl.Input[dsl.Artifact],
    workspace: str,
    outcomes: dsl.Output[dsl.Artifact],
) -> None:
    """Train and evaluate the settings of a sweep, one after the other; one that fails stops no other."""
    from pathlib import Path

    from components.shared.step import run_step

    run_step(
        "run_sweep",
        dataset=Path(dataset.path),
        snapshot=Path(snapshot.path),
        plans=Path(plans.path),
        workspace=Path(workspace),
        outcomes=Path(outcomes.path),
    )
