"""The result of a run, on the terminal."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.plan_training.memory import largest_ratio, largest_tokens, plan_memory
from components.progress import duration
from components.train_osft.options import TrainingOptions


def show(plan: dict[str, Any], console: Console) -> None:
    """Print the gap table and where everything is; say so when nothing had to be done."""
    summary = plan["summary"]
    table = Table(title=f"Gap questions, judged by {summary['judged_by']}", title_justify="left", pad_edge=False)
    table.add_column("question", max_width=60)
    others = list(summary["gap"][0]["others"])
    for name in ("base", *others, "adapted"):
        table.add_column(name, justify="center")
    for entry in summary["gap"]:
        verdicts = (entry["base_right"], *entry["others"].values(), entry["adapted_right"])
        table.add_row(escape(entry["question"]), *map(_mark, verdicts))
    table.add_section()
    table.add_row(
        "right",
        str(summary["base_correct"]),
        *(str(sum(entry["others"][name] for entry in summary["gap"])) for name in others),
        str(summary["adapted_correct"]),
        style="bold",
    )
    console.print()
    console.print(table)
    few = f"  McNemar p = {summary['mcnemar_p']:.3f}"
    console.print(f"closed {summary['closed']}, regressed {summary['regressed']}{few}", highlight=False)
    console.print(
        f"retention {summary['retention_base']:.1f} % → {summary['retention_adapted']:.1f} % "
        f"of {summary['retention_questions']} questions by {summary['retention_scored_by']}",
        highlight=False,
    )
    before, after = summary["retention_answers_base"], summary["retention_answers_adapted"]
    console.print(f"          {before:.1f} % → {after:.1f} % in free text", highlight=False)
    console.print(
        f"change in protected directions {100 * summary['protected_change_ratio']:.4f} %, "
        f"loss {summary['train_loss_first']:.3f} → {summary['train_loss_last']:.3f}",
        highlight=False,
    )
    spent = ", ".join(f"{step} {duration(seconds)}" for step, seconds in summary["seconds"].items())
    console.print(f"time      {spent}", highlight=False)
    console.print(f"model     {escape(summary['adapted_path'])}", highlight=False, soft_wrap=True)
    console.print(f"report    {escape(summary['report_path'])}", highlight=False, soft_wrap=True)
    if plan["trained"] and plan["evaluated"]:
        console.print(f"Nothing was trained: run {plan['run_key']} was complete.", style="bold", highlight=False)


def show_memory(config: dict[str, Any], options: TrainingOptions, gpu_memory_gib: float, console: Console) -> bool:
    """Print where a training's GPU memory goes and the largest options that fit; whether it fits."""
    planned = plan_memory(config, options)
    table = Table(pad_edge=False)
    table.add_column("GPU memory")
    table.add_column("GiB", justify="right")
    for name, gib in (
        ("frozen factors", planned.frozen_gib),
        ("trained weights with their moments", planned.trained_gib),
        ("gradients", planned.gradients_gib),
        ("activations", planned.activations_gib),
        ("unusable between them", planned.needed_gib - planned.total_gib),
    ):
        table.add_row(name, f"{gib:.1f}")
    table.add_section()
    table.add_row("together", f"{planned.needed_gib:.1f}", style="bold")
    table.add_row("the GPU has", f"{gpu_memory_gib:.1f}")
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
