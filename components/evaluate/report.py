"""The report of an evaluation: HTML and Markdown for people, JSON for programs (docs/evaluation.md documents it)."""

import dataclasses
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.data import chat
from components.evaluate import charts, words
from components.run.evaluation import Evaluation, Summary
from components.run.statistics import by_subject, p_value_words
from components.run.training_report import TrainingReport
from components.shared import pages, progress
from components.shared.storage import read_jsonl, write_json, write_text
from components.shared.workspace import DROPPED, METRICS, PLAN_PAGE, REVIEW, SUMMARY, TRAINING_REPORT

PAGE, MARKDOWN = "report.html", "report.md"
SCHEMA = 4  # of the JSON: higher when a field changes its meaning or goes
MAX_IN_MARKDOWN = 160
LINKED = {
    REVIEW: "rows that were trained on, to look at, and why rows were dropped",
    DROPPED: "every dropped row",
    PLAN_PAGE: "the training plan",
}
"""What lies beside the report, in the run's folder."""


def write(
    evaluation: Evaluation,
    *,
    base: Path,
    adapted: Path,
    evaluation_key: str,
    seconds: float,
    output: Path,
    beside: Sequence[Path] = (),
    copies: Mapping[str, Path] | None = None,
) -> Summary:
    """Write summary.json, report.html and report.md.

    Args:
        output: folder to write to.
        beside: files about the data, which are laid beside the report, those that there are.
        copies: where the report goes as well, by "html" and "markdown".
    """
    lineage, metrics = adapted / TRAINING_REPORT, adapted / METRICS
    summary = Summary(
        schema=SCHEMA,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        verdict=words.verdict(evaluation),
        base=str(base),
        adapted=str(adapted),
        report_path=str(output / PAGE),
        evaluation_key=evaluation_key,
        training=TrainingReport.read(adapted) if lineage.exists() else None,
        seconds=seconds,
        good=evaluation.gate.good,
        metrics=evaluation.metrics(),
        evaluation=evaluation,
    )
    values: dict[str, Any] = {
        "title": "Evaluation report",
        "found": evaluation,
        "summary": summary,
        "words": words,
        "by_subject": by_subject,
        "duration": progress.duration,
        "p": lambda compared: p_value_words(compared.p_value).removeprefix("= "),
    }
    output.mkdir(parents=True, exist_ok=True)
    for path in filter(Path.exists, beside):
        shutil.copyfile(path, output / path.name)
    html = pages.render(
        "components.evaluate",
        "report.html.j2",
        **values,
        subject=progress.printable(_subject(summary)),
        lineage=_lineage(summary),
        linked={name: what for name, what in LINKED.items() if (output / name).exists()},
        loss_chart=charts.loss_chart(read_jsonl(metrics)) if summary.training and metrics.exists() else "",
        audit_chart=charts.audit_chart(evaluation.audit.matrices),
        clean=progress.printable_lines,
    )
    short = pages.render("components.evaluate", "report.md.j2", **values, plain=_plain, less=_less)
    for path, text in (
        (output / PAGE, html),
        (output / MARKDOWN, short),
        *((path, {"html": html, "markdown": short}[kind]) for kind, path in (copies or {}).items()),
    ):
        write_text(path, text)
    write_json(output / SUMMARY, dataclasses.asdict(summary))
    return summary


def questions_and_answers(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Of chat rows: the user's question and the assistant's answer."""
    return [(chat.question_of(row), row["messages"][-1]["content"]) for row in rows]


def _subject(summary: Summary) -> str:
    """Which model of which run this is about."""
    training = summary.training
    return f"{training.plan.model_source}, run {training.plan.run_key}" if training else summary.adapted


def _lineage(summary: Summary) -> list[tuple[str, str]]:
    """What the result came from, as far as the adapted model says."""
    training = summary.training
    rows = [("Base model", summary.base), ("Adapted model", summary.adapted)]
    if training:
        plan = training.plan
        options = ", ".join(f"{name} = {value}" for name, value in plan.options.items())
        rows += [
            ("Run", f"{plan.run_key}, evaluation {summary.evaluation_key or 'outside of a run'}"),
            ("Base model's source", f"{plan.model_source} at {plan.model_commit}"),
            *((f"Generation {number}", one.words) for number, one in enumerate(plan.lineage, 1)),
            *([("Started from", plan.starts_from)] if plan.lineage else []),
            *([("Share of the change", f"{training.rewound:g}")] if training.rewound < 1 else []),
            ("Data", f"{plan.data_source}: {plan.samples} samples, digest {plan.data_digest}"),
            ("Rows", ", ".join(f"{count} {what}" for what, count in plan.rows.items())),
            ("Gap questions removed from the data", "; ".join(plan.gap_questions_in_data) or "none"),
            ("Method", f"OSFT with {options}"),
            ("Trainer", ", ".join([training.trainer, *(f"{n} {v}" for n, v in training.versions.items())])),
            ("Device", f"{training.device}, {progress.duration(training.seconds)}"),
        ]
    return [*rows, ("Evaluated", f"{words.date(summary.date)}, in {progress.duration(summary.seconds)}")]


def _less(text: str) -> str:
    """Our own text in Markdown, where "<" and "_" may begin markup; names in it went through `_plain` before."""
    return re.sub(r"(?<!\\)([<_])", r"\\\1", text)


def _plain(text: str) -> str:
    """A user's or a model's text in a Markdown table: on one line, cut, and nothing in it is markup.

    By backslashes: KFP's page shows numeric character references as they stand (markdown-to-jsx issue 674).
    """
    line = " ".join(progress.printable(text).split())
    shown = line if len(line) <= MAX_IN_MARKDOWN else line[: MAX_IN_MARKDOWN - 1] + "…"
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>()#+!|&~:/@.$" else letter for letter in shown)
