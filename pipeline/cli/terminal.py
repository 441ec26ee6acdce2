"""The result of a run, on the terminal."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.evaluate.statistics import p_value_words
from components.run.evaluation import Summary
from components.run.publication import Published
from components.run.training_options import TrainingOptions
from components.shared.progress import duration, printable
from components.training.memory import largest_ratio, largest_tokens, plan_memory


def show(summary: Summary, console: Console, published: Published | None = None) -> None:
    """Print the gap table, what changed in general, and where everything is, the published model too."""
    found = summary.evaluation
    gap, answers = found.gap, found.gap_answers
    table = Table(title=f"Gap questions, {escape(found.graded)}", title_justify="left", pad_edge=False)
    table.add_column("question", max_width=60)
    others = list(answers[0].others)
    for name in ("base", *others, "adapted"):
        table.add_column(escape(name), justify="center")
    for entry in answers:
        verdicts = (entry.base.right, *entry.others.values(), entry.adapted.right)
        table.add_row(escape(printable(entry.question)), *map(_mark, verdicts))
    table.add_section()
    table.add_row(
        "correct",
        str(gap.base_right),
        *(str(sum(entry.others[name] for entry in answers)) for name in others),
        str(gap.adapted_right),
        style="bold",
    )
    console.print()
    console.print(table)

    def line(name: str, text: str) -> None:
        console.print(f"{name:<10}{escape(text)}", highlight=False, soft_wrap=True)

    interval = f"{gap.difference:+.0f} points, 95 % interval {gap.low:+.0f} to {gap.high:+.0f}"
    chance = f"McNemar p {p_value_words(gap.p_value)}"
    line("gap", f"closed {gap.closed}, regressed {gap.regressed}; {interval}; {chance}")
    for name, general, how in (
        ("general", found.choices, "multiple choice"),
        ("", found.choices_unprompted, "multiple choice, without the system prompt"),
        ("", found.open, "open-ended"),
    ):
        if general:
            before, after = general.base_percent, general.adapted_percent
            line(name, f"{before:.1f} % → {after:.1f} % of {general.questions} questions, {how}")
    line("", f"perplexity {found.base_perplexity:.2f} → {found.adapted_perplexity:.2f} on ordinary text")
    if held_out := found.held_out:
        before, after = held_out.base_perplexity, held_out.adapted_perplexity
        line("held out", f"perplexity {before:.2f} → {after:.2f} on {held_out.answers} held-out answers")
    for match in found.contamination:
        line("overlap", f"row {match.row} of the training data matches the gap question {printable(match.question)!r}")
    inside, rounding = 100 * found.protected_change_ratio, 100 * found.rounding_ratio
    share = f"{inside:.4f} % of the change in protected directions; rounding alone accounts for about {rounding:.4f} %"
    line("audit", share if any(one.protected for one in found.audit) else "no matrix was protected")
    training = summary.training
    if training:
        spent = training.plan.preparing_seconds | {"train_osft": training.seconds, "evaluate": summary.seconds}
        line("loss", f"{training.loss_first:.3f} → {training.loss_last:.3f}")
        line("time", ", ".join(f"{step} {duration(seconds)}" for step, seconds in spent.items()))
    line("model", summary.adapted)
    line("report", summary.report_path)
    gate = found.gate
    verdict = "good enough" if gate.good_enough else f"not good enough: {'; '.join(gate.reasons)}"
    line("verdict", verdict)
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
    ratio = largest_ratio(config, options, 1, gpu_memory_gib)
    console.print(
        f"largest max_tokens_per_gpu  {tokens or 'none'} at unfreeze_rank_ratio {options.unfreeze_rank_ratio:g}"
    )
    console.print(f"largest unfreeze_rank_ratio {ratio or 'none'} at max_tokens_per_gpu {options.max_tokens_per_gpu}")
    return fits


def _mark(right: bool) -> str:
    return "[green]✓[/green]" if right else "[red]✗[/red]"
