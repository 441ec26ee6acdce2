"""What was found, for people (HTML, Markdown) and for programs (JSON; docs/evaluation.md documents it)."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.data import chat
from components.evaluate import charts
from components.evaluate.statistics import p_value_words
from components.run.evaluation import Answered, Comparison, Evaluation, HeldOut, Summary
from components.run.training_report import TrainingReport
from components.shared import pages, progress
from components.shared.storage import read_jsonl, write_json, write_text
from components.shared.workspace import METRICS, SUMMARY, TRAINING_REPORT

PAGE, MARKDOWN = "report.html", "report.md"
SCHEMA = 3  # of the JSON: higher when a field changes its meaning or goes
CHANGED_IN_MARKDOWN = 10
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
    html = pages.render(
        "components.evaluate",
        "report.html.j2",
        title="What the adaptation achieved",
        subject=progress.printable(subject(summary)),
        summary=summary,
        found=evaluation,
        rows=comparison_rows(evaluation),
        lineage=lineage_rows(summary),
        loss_chart=charts.loss_chart(read_jsonl(metrics)) if summary.training and metrics.exists() else "",
        audit_chart=charts.audit_chart(evaluation.audit),
        approaches=approach_totals(evaluation.gap_answers),
        contaminated={match.question for match in evaluation.contamination},
        few_words=few_words(evaluation.gap) if evaluation.gap.few else "",
        closed_by=closed_by,
        audit_words=audit_words(evaluation),
        bar_words=bar_words(evaluation),
        changes=changes(evaluation),
        p=_p,
        held_out_words=held_out_words(evaluation.held_out) if evaluation.held_out else "",
        clean=progress.printable_lines,
    )
    short = markdown(summary)
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
    """The result in a sentence."""
    bar = "good enough" if found.gate.good_enough else f"not good enough: {'; '.join(found.gate.reasons)}"
    return f"{changes(found)}; {bar}"


def changes(found: Evaluation) -> str:
    """What changed, in a sentence."""
    gap = found.gap
    failed = gap.questions - gap.base_right
    differences = [
        f"{name} {compared.difference:+.1f} points"
        for name, compared in (("by choice", found.choices), ("in full answers", found.open))
        if compared
    ]
    general = f"; general knowledge: {', '.join(differences)}" if differences else ""
    return (
        f"closed {gap.closed} of the {failed} gap questions that the base model fails and lost {gap.regressed} "
        f"(p {p_value_words(gap.p_value)}){general}"
    )


def bar_words(found: Evaluation) -> str:
    """Whether the run's bar is passed, as a headline."""
    return "Good enough" if found.gate.good_enough else "Not good enough"


def comparison_rows(found: Evaluation) -> list[tuple[str, Comparison]]:
    """All comparisons that there are, by what a reader calls them."""
    named = (
        ("Gap questions", found.gap),
        ("Gap questions that are not in the training data", found.clean_gap),
        ("General questions, multiple choice", found.choices),
        ("The same without the system prompt", found.choices_unprompted),
        ("General questions, answered in full", found.open),
    )
    return [(name, compared) for name, compared in named if compared]


def approach_totals(answers: list[Answered]) -> dict[str, int]:
    """How many gap questions each other approach answered right."""
    return {name: sum(one.others[name] for one in answers) for name in answers[0].others}


def subject(summary: Summary) -> str:
    """Which model of which run this is about."""
    training = summary.training
    return f"{training.plan.model_source}, run {training.plan.run_key}" if training else summary.adapted


def closed_by(answered: Answered) -> str:
    """Who answers a gap question, in the order in which they were tried."""
    names = [name for name, right in answered.others.items() if right]
    before = ["base"] if answered.base.right else []
    after = ["adapted"] if answered.adapted.right else []
    return ", ".join([*before, *names, *after]) or "nobody"


def lineage_rows(summary: Summary) -> list[tuple[str, str]]:
    """What the result came from, as far as the adapted model says."""
    training = summary.training
    rows = [("Base model", summary.base), ("Adapted model", summary.adapted)]
    if training:
        plan = training.plan
        rows += [
            ("Run", f"{plan.run_key}, evaluation {summary.evaluation_key or 'of its own'}"),
            ("Base model's origin", f"{plan.model_source} at {plan.model_commit}"),
            ("Data", f"{plan.data_source}: {plan.samples} samples, digest {plan.data_digest}"),
            ("Gap questions that stood in the data", "; ".join(plan.gap_questions_in_data) or "none"),
            ("Options", ", ".join(f"{name} = {value}" for name, value in plan.options.items())),
            ("Trainer", ", ".join([training.trainer, *(f"{n} {v}" for n, v in training.versions.items())])),
            ("Trained on", f"{training.device}, {progress.duration(training.seconds)}"),
        ]
    return [*rows, ("Answers judged by", summary.evaluation.judged_by)]


def markdown(summary: Summary) -> str:
    """Short enough for a run's page."""
    found = summary.evaluation
    lines = [
        "# What the adaptation achieved",
        "",
        f"**{bar_words(found)}**",
        "",
        *(f"- {reason}" for reason in found.gate.reasons),
        *([""] if found.gate.reasons else []),
        f"The adapted model {_less(changes(found))}. Judged by {_plain(found.judged_by)}.",
        "",
        "| | questions | base | adapted | closed | lost | p | difference, 95 % interval |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {c.questions} | {c.base_right} | {c.adapted_right} | {c.closed} | {c.regressed} "
        f"| {_less(_p(c))} | {c.difference:+.1f} ({c.low:+.1f} to {c.high:+.1f}) points |"
        for name, c in comparison_rows(found)
    ]
    if found.gap.few:
        lines += ["", few_words(found.gap)]
    changed = [one for one in found.gap_answers if one.base.right != one.adapted.right]
    if changed:
        lines += ["", "| gap question that changed | base | adapted |", "| --- | --- | --- |"]
        lines += [
            f"| {_plain(one.question)} | {_mark(one.base.right)} "
            f"| {_mark(one.adapted.right)} {_plain(one.adapted.answer)} |"
            for one in changed[:CHANGED_IN_MARKDOWN]
        ]
    if found.held_out:
        lines += ["", held_out_words(found.held_out)]
    lines += ["", f"{audit_words(found)}", ""]
    return "\n".join(lines)


def audit_words(found: Evaluation) -> str:
    """Where the change lies, in a sentence."""
    if not any(matrix.protected for matrix in found.audit):
        return "No matrix was protected: all directions of all matrices were free to change."
    return (
        f"Of the change of all protected matrices, {100 * found.protected_change_ratio:.4f} % of its norm lies in the "
        "directions that OSFT promised not to touch; rounding the saved numbers alone would put about "
        f"{100 * found.rounding_ratio:.4f} % there."
    )


def held_out_words(held_out: HeldOut) -> str:
    """What the rows that were set aside show, in two sentences."""
    change = 100 * (held_out.adapted_perplexity / held_out.base_perplexity - 1)
    return (
        f"Perplexity of {held_out.answers} answers that were set aside and never learnt: "
        f"{held_out.base_perplexity:.2f} → {held_out.adapted_perplexity:.2f} ({change:+.1f} %). A fall says that "
        "the training carries over to answers that it never saw, to their phrasing at least; a rise, that it learnt "
        "its rows by heart."
    )


def few_words(compared: Comparison) -> str:
    """What so few questions can show, in plain words."""
    if compared.detectable is None:
        asked = f"{compared.questions} questions are" if compared.questions > 1 else "One question is"
        return (
            f"{asked} too few for any statistical statement: even if everything changed for the better, that could be "
            "chance."
        )
    return (
        f"{compared.questions} questions are few: only a true improvement of {compared.detectable:.0f} percentage "
        "points or more would be found with 80 % probability. A smaller one may be there and not be seen, and what is "
        "seen may be larger or smaller than what is true, as the interval says."
    )


def _p(compared: Comparison) -> str:
    """A cell of a table whose header says "p"."""
    return p_value_words(compared.p_value).removeprefix("= ")


def _mark(right: bool) -> str:
    return "✓" if right else "✗"


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
