"""The KFP face of `format_chat`."""

from kfp import dsl

from components.shared.kfp_step import step


@step
def format_chat(records: dsl.Input[dsl.Dataset], system_prompt: str, dataset: dsl.Output[dsl.Dataset]) -> None:
    """Turn records into chat rows."""
    from pathlib import Path

    from components.shared.step import run_step

    report = run_step(
        "format_chat",
        records=Path(records.path),
        system_prompt=system_prompt,
        output=Path(dataset.path),
    )
    dataset.metadata["samples"] = report.samples
    dataset.metadata["data_digest"] = report.data_digest
