"""The result of a run, on the terminal."""

import contextlib
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.evaluate import words
from components.evaluate.report import LINKED
from components.run.evaluation import Summary
from components.run.findings import Comparison
from components.run.publication import Published
from components.run.statistics import by_subject, p_value_words
from components.run.training_options import TrainingOptions
from components.shared.progress import duration, printable
from components.training.memory import largest_ratio, largest_tokens, plan_memory

MAX_SUBJECTS = 5  # that lost, named here; the report has all


class Terminal(Console):
    """Goes quiet when nobody reads it any more, as when Ctrl-C ends a `tee` behind the run: what works goes on."""

    def on_broken_pipe(self) -> None:
        with contextlib.suppress(SystemExit):
            super().on_broken_pipe()


def show(summary: Summary, console: Console, published: Published | None = None) -> None:
    """Print the gap table, what changed in general, where everything is, and last whether the model is good."""
    found = summary.evaluation
    gap, answers = found.gap, found.gap_answers
    table = Table(title="Gap questions: ✓ graded right, ✗ wrong, ? not graded", title_justify="left", pad_edge=False)
    table.add_column("question", max_width=60)
    others = list(answers[0].others) if answers else []
    for name in ("base", "in brief", *others, "adapted"):
        table.add_column(escape(name), justify="center")
    for entry in answers:
        verdicts = (entry.base.right, entry.base_brief.right, *entry.others.values(), entry.adapted.right)
        trained = " (in the training data)" if entry.in_training else ""
        table.add_row(escape(printable(entry.question)) + trained, *map(_mark, verdicts))
    counting = [
        (entry.base.right, entry.base_brief.right, *entry.others.values(), entry.adapted.right)
        for entry in answers
        if entry.counts
    ]
    table.add_section()
    table.add_row(
        f"graded right, of the {len(counting)} that count",
        *(str(sum(bool(row[place]) for row in counting)) for place in range(len(others) + 3)),
        style="bold",
    )
    console.print()
    console.print(table)

    def line(name: str, text: str) -> None:
        console.print(f"{name:<10}{escape(printable(text))}", highlight=False, soft_wrap=True)

    def compared(name: str, title: str, what: Comparison) -> None:
        line(
            name,
            f"{what.base_percent:.1f} % → {what.adapted_percent:.1f} % of {what.questions} {title}; "
            f"closed {what.closed}, regressed {what.regressed}; {what.difference:+.1f} points "
            f"({what.low:+.1f} to {what.high:+.1f}), p {p_value_words(what.p_value)}",
        )

    line("counted", words.counted("gap questions", answers))
    if gap:
        compared("gap", "gap questions", gap)
    line("style", words.style(found) or "no gap question closed")
    for approach, against in found.approaches.items():
        compared("against", f"gap questions, {approach} in place of base", against)
    for title, general in (
        ("multiple-choice questions", found.choices),
        ("multiple-choice questions, without the system prompt", found.choices_unprompted),
        ("open-ended general questions", found.open),
    ):
        if general:
            compared("general", title, general)
    if found.earlier:
        compared("earlier", "gap questions of earlier runs, then and now", found.earlier)
    losses = [(name, each) for name, each in by_subject(found).items() if each.difference < 0]
    for subject, each in losses[:MAX_SUBJECTS]:
        compared("subject", f"questions on {subject}", each)
    line("", f"perplexity {found.base_perplexity:.2f} → {found.adapted_perplexity:.2f} on ordinary text")
    if found.held_out:
        line("held out", words.held_out(found.held_out))
    line("overlap", words.contamination(found))
    for match in found.contamination:
        line("", f"row {match.row} of the training data matches the question {match.question!r}")
    line("audit", words.audit(found.audit))
    if found.rewind:
        line("rewind", words.rewound(found.rewind))
    training = summary.training
    if training:
        spent = training.plan.preparing_seconds | {"train_osft": training.seconds, "evaluate": summary.seconds}
        line("loss", f"{training.loss_first:.3f} → {training.loss_last:.3f}")
        line("time", ", ".join(f"{step} {duration(seconds)}" for step, seconds in spent.items()))
    line("model", summary.adapted)
    line("report", f"{summary.report_path}, {words.date(summary.date)}")
    for name, what in LINKED.items():
        beside = Path(summary.report_path).with_name(name)
        if beside.exists():
            line("", f"{beside}: {what}")
    line("grader", words.graded_by(found.grading))
    for caution in words.cautions(found):
        line("caution", caution)
    line("verdict", words.headline(found))
    for condition in found.gate.unmet:
        advice = f". To try: {'; '.join(condition.advice)}" if condition.advice else ""
        line("", f"{condition.finding}{advice}")
    if published:
        line("published", f"{published.name}, version {published.version}: {published.uri}")


def show_memory(config: dict[str, Any], options: TrainingOptions, gpu_memory_gib: float, console: Console) -> bool:
    """Print what a training's GPU memory is used for and the largest options that fit; return whether it fits."""
    planned = plan_memory(config, options)
    table = Table(pad_edge=False)
    table.add_column("GPU memory")
    table.add_column("GiB", justify="right")
    for name, gib in (
        ("frozen factors", planned.frozen_gib),
        ("trained weights and optimizer states", planned.trained_gib),
        ("gradients", planned.gradients_gib),
        ("activations", planned.activations_gib),
        ("fragmentation", planned.needed_gib - planned.total_gib),
    ):
        table.add_row(name, f"{gib:.1f}")
    table.add_section()
    table.add_row("total", f"{planned.needed_gib:.1f}", style="bold")
    table.add_row("available", f"{gpu_memory_gib:.1f}")
    console.print(table)
    fits = planned.needed_gib <= gpu_memory_gib
    console.print("It fits." if fits else "It does not fit.", style="bold green" if fits else "bold red")
    tokens = largest_tokens(config, options, 1, gpu_memory_gib)
    by = f" at unfreeze_rank_ratio {options.unfreeze_rank_ratio:g}" if options.protects else ""
    console.print(f"largest max_tokens_per_gpu  {tokens or 'none'}{by}")
    if options.protects:
        ratio = largest_ratio(config, options, 1, gpu_memory_gib)
        at = f"at max_tokens_per_gpu {options.max_tokens_per_gpu}"
        console.print(f"largest unfreeze_rank_ratio {ratio or 'none'} {at}")
    return fits


def _mark(right: bool | None) -> str:
    return "?" if right is None else "[green]✓[/green]" if right else "[red]✗[/red]"
