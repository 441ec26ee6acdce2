"""The KFP face of `ingest_sdg`."""

from kfp import dsl

from components.shared.kfp_step import step


@step
def ingest_sdg(
    data: str,
    questions: str,
    retention_questions: str,
    data_options: dict,
    records: dsl.Output[dsl.Dataset],
    review: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Read SDG output and questions; keep what can be trained on, account for every row."""
    from pathlib import Path

    from components.shared.step import run_step

    report = run_step(
        "ingest_sdg",
        data=data,
        questions=questions,
        retention_questions=retention_questions,
        options=data_options,
        output=Path(records.path),
        review=Path(review.path),
    )
    metrics.log_metric("rows_read", report.rows_read)
    metrics.log_metric("kept", report.kept)
    metrics.log_metric("held_out", report.held_out)
    for reason, count in report.dropped.items():
        metrics.log_metric(f"dropped_{reason.replace(' ', '_')}", count)
