"""Base and adapted model answer the same questions; what was closed, what was lost, and was the promise kept?

Out: `summary.json` in the run's folder (the numbers and every answer), and the report as one HTML page beside it.
"""

import dataclasses
import gc
import time
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from components import pages, progress
from components.evaluate import audit
from components.evaluate.answering import answer, load
from components.evaluate.charts import loss_chart
from components.evaluate.choices import choose
from components.evaluate.verdicts import is_right
from components.storage import read_json, read_jsonl, write_json, write_text
from components.train_osft.core import METRICS
from components.workspace import SUMMARY, TRAINING_REPORT, run_folder

REPORT_PAGE = "report.html"
JUDGED_BY = "reference"
FEW_QUESTIONS = 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """One question and what both models said to it."""

    question: str
    reference: str
    others: dict[str, bool]
    """Verdicts of other approaches; empty for retention questions."""
    base_answer: str
    base_right: bool
    adapted_answer: str
    adapted_right: bool
    base_chose: str = ""
    """The most likely choice; empty for questions without distractors."""
    adapted_chose: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """`summary.json`: the result of a run."""

    run_key: str
    evaluation_key: str
    model: dict[str, Any]
    adapted_path: str
    report_path: str
    judged_by: str
    gap_questions: int
    base_correct: int
    adapted_correct: int
    closed: int
    """Gap questions that only the adapted model answers."""
    regressed: int
    """Gap questions that only the base model answers."""
    mcnemar_p: float
    """Exact two-sided McNemar test of closed against regressed."""
    retention_questions: int
    retention_scored_by: str
    """likelihood (multiple choice) or answers."""
    retention_base: float
    """Retention questions that the base model gets right, in percent."""
    retention_adapted: float
    retention_answers_base: float
    """The same questions answered in free text, in percent of right answers."""
    retention_answers_adapted: float
    protected_change_ratio: float
    """Share of the change's norm in the directions that OSFT protects."""
    train_loss_first: float
    train_loss_last: float
    seconds: dict[str, float]
    """Per step."""
    gap: list[Answer]
    retention: list[Answer]

    def metrics(self) -> dict[str, float]:
        """The numbers for KFP's metrics."""
        names = (
            "gap_questions", "base_correct", "adapted_correct", "closed", "regressed", "mcnemar_p",
            "retention_base", "retention_adapted", "retention_answers_base", "retention_answers_adapted",
            "protected_change_ratio", "train_loss_first", "train_loss_last",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


def evaluate(*, dataset: Path, snapshot: Path, adapted: Path, plan: Path, workspace: Path, page: Path) -> Summary:
    """Evaluate the adapted model of a run against its base.

    Args:
        dataset: what format_chat made: the questions and the system prompt.
        snapshot: the base model.
        adapted: the adapted model.
        plan: what plan_training made.
        workspace: the run's workspace; the summary and the report go to the run's folder.
        page: HTML page to make: the report once more, for the dashboard.
    """
    started = time.monotonic()
    planned, training = read_json(plan), read_json(adapted / TRAINING_REPORT)
    run = run_folder(workspace, planned["run_key"])
    gap, retention = read_jsonl(dataset / "gap_questions.jsonl"), read_jsonl(dataset / "retention_questions.jsonl")
    system_prompt = (dataset / "system_prompt.txt").read_text(encoding="utf-8")
    questions = [entry["question"] for entry in (*gap, *retention)]

    multiple = [(entry["question"], entry["choices"]) for entry in retention if entry["choices"]]

    said: dict[str, list[str]] = {}
    chose: dict[str, list[str]] = {}
    for who, folder in (("base", snapshot), ("adapted", adapted)):
        progress.say(f"{who}: answering {len(questions)} questions")
        model, tokenizer = load(folder)
        said[who] = answer(model, tokenizer, system_prompt, questions, who)
        picked = choose(model, tokenizer, system_prompt, multiple, who)
        chose[who] = [choices[index] for (_, choices), index in zip(multiple, picked, strict=True)]
        del model  # one model in memory at a time
        gc.collect()
    answers = [
        Answer(
            question=entry["question"],
            reference=entry["reference"],
            others=entry.get("others", {}),
            base_answer=base,
            base_right=is_right(entry["question"], entry["reference"], base),
            adapted_answer=ours,
            adapted_right=is_right(entry["question"], entry["reference"], ours),
        )
        for entry, base, ours in zip((*gap, *retention), said["base"], said["adapted"], strict=True)
    ]
    gap_answers, retention_answers = answers[: len(gap)], answers[len(gap) :]
    in_text = {
        "base": percent(sum(a.base_right for a in retention_answers), len(retention)),
        "adapted": percent(sum(a.adapted_right for a in retention_answers), len(retention)),
    }
    kept = in_text
    if multiple:
        kept = {
            who: percent(
                sum(choice == choices[0] for (_, choices), choice in zip(multiple, chose[who], strict=True)),
                len(multiple),
            )
            for who in chose
        }
        retention_answers = [
            dataclasses.replace(a, base_chose=base, adapted_chose=ours)
            for a, base, ours in zip(retention_answers, chose["base"], chose["adapted"], strict=True)
        ]
    ratio = planned["options"]["unfreeze_rank_ratio"]
    patterns = tuple(planned["options"]["target_patterns"] or audit.default_patterns(snapshot))
    audits = audit.audit(snapshot, adapted, ratio, patterns)

    closed, regressed = count_changes(gap_answers)
    summary = Summary(
        run_key=planned["run_key"],
        evaluation_key=planned["evaluation_key"],
        model=planned["model"],
        adapted_path=str(adapted),
        report_path=str(run / REPORT_PAGE),
        judged_by=JUDGED_BY,
        gap_questions=len(gap_answers),
        base_correct=sum(a.base_right for a in gap_answers),
        adapted_correct=sum(a.adapted_right for a in gap_answers),
        closed=closed,
        regressed=regressed,
        mcnemar_p=mcnemar_p(closed, regressed),
        retention_questions=len(retention_answers),
        retention_scored_by="likelihood" if multiple else "answers",
        retention_base=kept["base"],
        retention_adapted=kept["adapted"],
        retention_answers_base=in_text["base"],
        retention_answers_adapted=in_text["adapted"],
        protected_change_ratio=audit.overall(audits),
        train_loss_first=training["loss_first"],
        train_loss_last=training["loss_last"],
        seconds={
            "ingest_sdg": planned["data"]["ingest"]["seconds"],
            "format_chat": planned["data"]["seconds"],
            "snapshot_model": planned["snapshot_seconds"],
            "plan_training": planned["seconds"],
            "train_osft": training["seconds"],
            "evaluate": time.monotonic() - started,
        },
        gap=gap_answers,
        retention=retention_answers,
    )
    html = pages.render(
        "components.evaluate",
        "report.html.j2",
        title="What the adaptation achieved",
        summary=summary,
        verdict=verdict(summary),
        few_questions=FEW_QUESTIONS,
        audits=audits,
        training=training,
        plan=planned,
        chart=loss_chart(read_jsonl(adapted / METRICS)),
    )
    write_text(page, html)
    write_text(run / REPORT_PAGE, html)
    write_json(run / SUMMARY, dataclasses.asdict(summary))
    progress.say(verdict(summary))
    return summary


def count_changes(answers: list[Answer]) -> tuple[int, int]:
    """Closed and regressed questions."""
    closed = sum(a.adapted_right and not a.base_right for a in answers)
    regressed = sum(a.base_right and not a.adapted_right for a in answers)
    return closed, regressed


def mcnemar_p(closed: int, regressed: int) -> float:
    """Exact two-sided p-value that closed and regressed questions differ by chance only (McNemar 1947)."""
    changed = closed + regressed
    return float(binomtest(closed, changed, 0.5).pvalue) if changed else 1.0


def percent(part: int, whole: int) -> float:
    return 100.0 * part / whole


def verdict(summary: Summary) -> str:
    """The result in a sentence."""
    failed = summary.gap_questions - summary.base_correct
    free = f"{summary.retention_answers_base:.1f} % → {summary.retention_answers_adapted:.1f} % in free text"
    chosen = f"{summary.retention_base:.1f} % → {summary.retention_adapted:.1f} % by likelihood, "
    return (
        f"closed {summary.closed} of the {failed} gap questions that the base model fails and regressed on "
        f"{summary.regressed}; retention: {chosen if summary.retention_scored_by == 'likelihood' else ''}{free}"
    )
