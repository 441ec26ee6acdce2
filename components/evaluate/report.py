"""The report of an evaluation: HTML and Markdown for people, JSON for programs (docs/evaluation.md documents it)."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.data import chat
from components.evaluate import charts
from components.evaluate.statistics import p_value_words
from components.run.evaluation import Evaluation, Summary
from components.run.findings import Comparison, HeldOut, QuestionResult
from components.run.training_report import TrainingReport
from components.shared import pages, progress
from components.shared.storage import read_jsonl, write_json, write_text
from components.shared.workspace import METRICS, SUMMARY, TRAINING_REPORT

PAGE, MARKDOWN = "report.html", "report.md"
SCHEMA = 3  # of the JSON: higher when a field changes its meaning or goes
MAX_IN_MARKDOWN = 160


def write(
    evaluation: Evaluation,
    *,
    base: Path,
    adapted: Path,
    evaluation_key: str,
    seconds: float,
    output: Path,
    copies: Mapping[str, Path] | None = None,
) -> Summary:
    """Write summary.json, report.html and report.md.

    Args:
        output: folder to write to.
        copies: where the report goes as well, by "html" and "markdown".
    """
    lineage, metrics = adapted / TRAINING_REPORT, adapted / METRICS
    summary = Summary(
        schema=SCHEMA,
        verdict=verdict(evaluation),
        base=str(base),
        adapted=str(adapted),
        report_path=str(output / PAGE),
        evaluation_key=evaluation_key,
        training=TrainingReport.read(adapted) if lineage.exists() else None,
        seconds=seconds,
        good_enough=evaluation.gate.good_enough,
        metrics=evaluation.metrics(),
        evaluation=evaluation,
    )
    words: dict[str, Any] = {
        "title": "Evaluation report",
        "found": evaluation,
        "headline": "Good enough" if evaluation.gate.good_enough else "Not good enough",
        "changes": changes(evaluation),
        "few_words": few_words(evaluation.gap) if evaluation.gap.few else "",
        "held_out_words": held_out_words(evaluation.held_out) if evaluation.held_out else "",
        "audit_words": audit_words(evaluation),
        "p": lambda compared: p_value_words(compared.p_value).removeprefix("= "),
    }
    html = pages.render(
        "components.evaluate",
        "report.html.j2",
        **words,
        subject=progress.printable(_subject(summary)),
        summary=summary,
        lineage=_lineage(summary),
        loss_chart=charts.loss_chart(read_jsonl(metrics)) if summary.training and metrics.exists() else "",
        audit_chart=charts.audit_chart(evaluation.audit),
        approaches=approach_totals(evaluation.gap_answers),
        contaminated={match.question for match in evaluation.contamination},
        clean=progress.printable_lines,
    )
    short = pages.render("components.evaluate", "report.md.j2", **words, plain=_plain, less=_less)
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


def verdict(found: Evaluation) -> str:
    """The result in one sentence."""
    gate = "good enough" if found.gate.good_enough else f"not good enough: {'; '.join(found.gate.reasons)}"
    return f"{changes(found)}; {gate}"


def changes(found: Evaluation) -> str:
    """What changed, in one sentence."""
    gap = found.gap
    differences = [
        f"{name} {compared.difference:+.1f} points"
        for name, compared in (("multiple choice", found.choices), ("open-ended", found.open))
        if compared
    ]
    general = f"; general knowledge: {', '.join(differences)}" if differences else ""
    return (
        f"closed {gap.closed} of the {gap.questions - gap.base_right} gap questions that the base model gets wrong, "
        f"{gap.regressed} regressed (p {p_value_words(gap.p_value)}){general}"
    )


def approach_totals(results: list[QuestionResult]) -> dict[str, int]:
    """How many gap questions each other approach answered right."""
    return {name: sum(one.others[name] for one in results) for name in results[0].others}


def audit_words(found: Evaluation) -> str:
    """Where the change lies, in one sentence."""
    if not any(matrix.protected for matrix in found.audit):
        return "No matrix was protected: all directions of all matrices were free to change."
    return (
        f"Of the change of all protected matrices, {100 * found.protected_change_ratio:.4f} % of its norm lies in the "
        "directions that OSFT keeps unchanged; rounding the saved weights alone would account for about "
        f"{100 * found.rounding_ratio:.4f} %."
    )


def held_out_words(held_out: HeldOut) -> str:
    """What the held-out rows show, in two sentences."""
    change = 100 * (held_out.adapted_perplexity / held_out.base_perplexity - 1)
    return (
        f"Perplexity on {held_out.answers} held-out answers, which were not trained on: "
        f"{held_out.base_perplexity:.2f} → {held_out.adapted_perplexity:.2f} ({change:+.1f} %). A drop means that "
        "the training generalizes to answers it has not seen, at least to their phrasing; a rise, that it memorized "
        "its rows."
    )


def few_words(compared: Comparison) -> str:
    """What so few questions can show, in plain words."""
    if compared.detectable is None:
        count = f"{compared.questions} questions are" if compared.questions > 1 else "One question is"
        return f"{count} too few for any statistical conclusion: even if every answer improved, it could be chance."
    return (
        f"{compared.questions} questions are few: only a true improvement of {compared.detectable:.0f} percentage "
        "points or more would be detected with 80 % probability. A smaller one may go unnoticed, and the difference "
        "measured may be larger or smaller than the true one, as the interval shows."
    )


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
        rows += [
            ("Run", f"{plan.run_key}, evaluation {summary.evaluation_key or 'outside of a run'}"),
            ("Base model's source", f"{plan.model_source} at {plan.model_commit}"),
            ("Data", f"{plan.data_source}: {plan.samples} samples, digest {plan.data_digest}"),
            ("Gap questions removed from the data", "; ".join(plan.gap_questions_in_data) or "none"),
            ("Options", ", ".join(f"{name} = {value}" for name, value in plan.options.items())),
            ("Trainer", ", ".join([training.trainer, *(f"{n} {v}" for n, v in training.versions.items())])),
            ("Device", f"{training.device}, {progress.duration(training.seconds)}"),
        ]
    return [*rows, ("Answers", summary.evaluation.graded)]


def _less(text: str) -> str:
    """Our own text in Markdown, where "<" may begin markup."""
    return text.replace("<", "\\<")


def _plain(text: str) -> str:
    """A user's or a model's text in a Markdown table: on one line, cut, and nothing in it is markup.

    By backslashes: KFP's page shows numeric character references as they stand (markdown-to-jsx issue 674).
    """
    line = " ".join(progress.printable(text).split())
    shown = line if len(line) <= MAX_IN_MARKDOWN else line[: MAX_IN_MARKDOWN - 1] + "…"
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>()#+!|&~:/@.$" else letter for letter in shown)
