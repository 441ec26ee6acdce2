"""What steps leave for each other, complete and plain: a plan, a training report, a model that is handed on."""

import dataclasses
from pathlib import Path
from typing import Any

from components.evaluate.report import SCHEMA
from components.models.reference import refer_to
from components.run.evaluation import Evaluation, Summary
from components.run.evaluation_options import EvaluationOptions
from components.run.findings import (
    KEPT,
    MET,
    Agreement,
    Audit,
    ChoiceResult,
    Comparison,
    Condition,
    Gate,
    GradedAnswer,
    Grading,
    MatrixAudit,
    QuestionResult,
    Style,
)
from components.run.plan import MemoryPlan, TrainingPlan
from components.run.statistics import compare
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
        "ingest": {
            "data": "s3://bucket/qa.csv", "rows_read": 77, "kept": 64, "held_out": 3,
            "dropped": {"judged unfaithful": 8, "empty question": 0, "duplicate": 2},
            "gap_questions_in_data": [], "seconds": 1.0,
        },
        "data_digest": "d1", "system_prompt": "Be brief.", "seconds": 1.0,
    },
    model={"source": "ibm-granite/granite-3.2-8b-instruct", "commit": "0" * 40, "bytes": 1000},
    snapshot_seconds=1.0, seconds=1.0,
)  # fmt: skip
REPORT = TrainingReport(
    run_key=PLAN.run_key, path="adapted", device="CPU", samples=64, steps=80, loss_first=2.3, loss_last=0.04,
    factored_matrices=7, trainable_parameters=1000, loading_seconds=1.0, training_seconds=1.0, seconds=2.0,
    tokens_per_second=100.0, peak_memory_gib=0.0, resumed_at=0, train_dtype="float32", trainer="single-device-4",
    versions={"torch": "2.13.0"}, plan=PLAN,
)  # fmt: skip


AGREEMENT = Agreement(
    answers=168,
    ungraded=0,
    accuracy=0.875,
    kappa=0.75,
    kappa_low=0.64,
    kappa_high=0.85,
    falsely_right=9,
    falsely_wrong=12,
    languages={"en": 0.91, "de": 0.78},
)
GRADING = Grading(grader="the local judge granite", agreement=AGREEMENT, adaptations=[], refused={}, unread=[])
AUDIT = Audit(
    word=KEPT,
    promised=True,
    unfreeze_rank_ratio=0.25,
    protected_change_ratio=0.00123,
    rounding_ratio=0.001,
    unprotected_share=0.4,
    worst="model.layers.0.self_attn.q_proj.weight",
    identical=False,
    matrices=[
        MatrixAudit(
            name="model.layers.0.self_attn.q_proj.weight",
            protected=True,
            relative_change=0.02,
            protected_change_ratio=0.00123,
            rounding_ratio=0.001,
            change_norm=0.5,
        )
    ],
)
MET_CONDITION = Condition(name="gap questions closed", state=MET, finding="1 closed of 1: a gain", advice=[])


def result(
    base: bool | None, adapted: bool | None, question: str = "Who?", answer: str = "A master.", **values: Any
) -> QuestionResult:
    """A question that both models answered with the same words, graded as told; without `brief`, in brief as asked."""
    graded = {"base": base, "base_brief": values.pop("brief", base), "adapted": adapted}
    words = {"answer": answer, "reason": values.pop("reason", ""), "cut": values.pop("cut", False)}
    answers = {who: GradedAnswer(right=right, **words) for who, right in graded.items()}
    plain = {"reference": "a master", "subject": "", "others": {}}
    return QuestionResult(question=question, **{**plain, **answers, **values})


def choice(base: bool, adapted: bool, question: str = "Which?", **values: Any) -> ChoiceResult:
    """A multiple-choice question, with and without the system prompt answered alike."""
    said = {True: "right", False: "other"}
    chosen = {"base": said[base], "adapted": said[adapted]}
    chosen |= {f"{who}_unprompted": words for who, words in chosen.items()}
    return ChoiceResult(question=question, **{"subject": "", "right": "right", **chosen, **values})


def evaluation(gap: list[QuestionResult], /, **changes: Any) -> Evaluation:
    """What an evaluation finds in these gap questions and in no others; `changes` replace its fields."""
    counted = [one for one in gap if one.counts]
    closed = [one for one in counted if one.adapted.right and not one.base.right]
    plain = Evaluation(
        grading=GRADING,
        gap=compared([(one.base_either, one.adapted.right) for one in counted]),
        style=Style(closed_as_asked=len(closed), closed_by_style=sum(bool(one.base_brief.right) for one in closed)),
        gap_answers=gap,
        approaches={
            name: found
            for name in (gap[0].others if gap else ())
            if (found := compared([(one.others[name], one.adapted.right) for one in counted]))
        },
        trained_rows=64,
        contamination=[],
        contaminated_gap=compared(
            [(one.base_either, one.adapted.right) for one in gap if one.in_training and one.graded]
        ),
        choices=None,
        choices_unprompted=None,
        choice_answers=[],
        open=None,
        open_in_brief=False,
        open_answers=[],
        differences=[],
        base_phrases=None,
        adapted_phrases=None,
        base_perplexity=20.0,
        adapted_perplexity=21.0,
        held_out=None,
        scores=[],
        audit=AUDIT,
        gate=Gate(conditions=[MET_CONDITION]),
    )
    return dataclasses.replace(plain, **changes)


def compared(pairs: list[tuple[bool | None, bool | None]]) -> Comparison | None:
    """Base and adapted verdicts compared; None without any."""
    return compare([bool(base) for base, _ in pairs], [bool(adapted) for _, adapted in pairs]) if pairs else None


def summary_of(found: Evaluation, training: TrainingReport | None = None, **changes: Any) -> Summary:
    """The summary of an evaluation."""
    plain = Summary(
        schema=SCHEMA, date="2026-11-28T09:30:00+00:00", verdict="Good: closed", base="base", adapted="adapted",
        report_path="report.html", evaluation_key="e0", training=training, seconds=1.0, good=found.gate.good,
        metrics=found.metrics(), evaluation=found,
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def write_summary(run: Path, verdict: str, metrics: dict[str, float]) -> None:
    """The summary of an evaluation in a run's folder."""
    adapted = str(run.parent.parent / "adapted" / run.name)
    summary = summary_of(evaluation([result(False, True)]), verdict=verdict, metrics=metrics, adapted=adapted)
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
