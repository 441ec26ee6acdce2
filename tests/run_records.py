"""What steps leave for each other, complete and plain: a plan, a training report, a model that is handed on."""

import dataclasses
from pathlib import Path
from typing import Any

from components.evaluate.report import SCHEMA
from components.evaluate.statistics import compare
from components.models.reference import refer_to
from components.run.evaluation import BY_REFERENCE, Evaluation, Summary
from components.run.evaluation_options import EvaluationOptions
from components.run.findings import Gate, GradedAnswer, MatrixAudit, QuestionResult
from components.run.plan import MemoryPlan, TrainingPlan
from components.run.training_options import TrainingOptions
from components.run.training_report import TrainingReport
from components.shared.storage import write_json

PLAN = TrainingPlan(
    run_key="6fdfa8e78ea3eea2", evaluation_key="e0", trained=False, evaluated=False, published=False,
    options=TrainingOptions().as_json(), evaluation=dataclasses.asdict(EvaluationOptions()),
    samples=64, tokens_per_epoch=4000, longest_sample=90, steps=80,
    memory=MemoryPlan(frozen_gib=0.0, trained_gib=0.0, gradients_gib=0.0, activations_gib=0.0),
    gpus=1, gpu_memory_gib=0.0, gpu_product="", publish={"name": "granite-osft", "registry": ""},
    data={
        "ingest": {"data": "s3://bucket/qa.csv", "gap_questions_in_data": [], "seconds": 1.0},
        "data_digest": "d1", "system_prompt": "Be brief.", "seconds": 1.0,
    },
    model={"source": "ibm-granite/granite-3.2-8b-instruct", "commit": "0" * 40, "bytes": 1000},
    snapshot_seconds=1.0, seconds=1.0,
)  # fmt: skip
REPORT = TrainingReport(
    run_key=PLAN.run_key, path="adapted", device="CPU", samples=64, steps=80, loss_first=2.3, loss_last=0.04,
    factored_matrices=7, trainable_parameters=1000, loading_seconds=1.0, training_seconds=1.0, seconds=2.0,
    tokens_per_second=100.0, peak_memory_gib=0.0, resumed_at=0, train_dtype="float32", trainer="single-device-3",
    versions={"torch": "2.13.0"}, plan=PLAN,
)  # fmt: skip


def result(
    base: bool, adapted: bool, question: str = "Who?", answer: str = "A master.", **values: Any
) -> QuestionResult:
    """A question that both models answered with the same words, graded as told."""
    answers = {"answer": answer, "reason": values.pop("reason", ""), "cut": values.pop("cut", False)}
    graded = {"base": GradedAnswer(right=base, **answers), "adapted": GradedAnswer(right=adapted, **answers)}
    return QuestionResult(
        question=question, **{"reference": "a master", "subject": "", "others": {}, **graded, **values}
    )


def evaluation(gap: list[QuestionResult], /, **changes: Any) -> Evaluation:
    """A plain evaluation of gap questions alone; `changes` replace its fields."""
    plain = Evaluation(
        judged_by=BY_REFERENCE,
        gap=compare([one.base.right for one in gap], [one.adapted.right for one in gap]),
        gap_answers=gap,
        contamination=[],
        clean_gap=None,
        choices=None,
        choices_unprompted=None,
        choice_answers=[],
        open=None,
        open_answers=[],
        base_phrases=None,
        adapted_phrases=None,
        base_perplexity=20.0,
        adapted_perplexity=21.0,
        held_out=None,
        scores=[],
        protected_change_ratio=0.00123,
        rounding_ratio=0.001,
        audit=[
            MatrixAudit(
                name="model.layers.0.self_attn.q_proj.weight",
                protected=True,
                relative_change=0.02,
                protected_change_ratio=0.00123,
                rounding_ratio=0.0,
                change_norm=0.5,
            )
        ],
        gate=Gate(good_enough=True, reasons=[]),
    )
    return dataclasses.replace(plain, **changes)


def write_summary(run: Path, verdict: str, metrics: dict[str, float]) -> None:
    """The summary of an evaluation in a run's folder."""
    summary = Summary(
        schema=SCHEMA, verdict=verdict, base="base", adapted="adapted", report_path="report.html",
        evaluation_key="e0", training=None, seconds=1.0, good_enough=True, metrics=metrics,
        evaluation=evaluation([result(False, True)]),
    )  # fmt: skip
    write_json(run / "summary.json", dataclasses.asdict(summary))


def as_written(record: Any, **changes: Any) -> dict[str, Any]:
    """A record as JSON, with other values."""
    return dataclasses.asdict(dataclasses.replace(record, **changes))


def hand_on(folder: Path, workspace: Path, marker: str) -> Path:
    """Hand a model on as a step does: the note that lies where KFP's artifact would."""
    if not (folder / marker).exists():
        write_json(folder / marker, {})
    note = workspace.parent / f"{folder.name}-{marker}"
    refer_to(folder, marker, workspace, commit="0" * 40).write(note)
    return note
