"""The KFP face of `notify`, the exit handler."""

from kfp import dsl

from components.shared.kfp_step import step


@step
def notify(status: dsl.PipelineTaskFinalStatus, runs_page: str, sweep: bool = False) -> None:
    """Send a notification of how the run ended."""
    from components.shared.step import run_step

    run_step("notify", state=status.state, run=status.pipeline_job_resource_name, runs_page=runs_page, sweep=sweep)
