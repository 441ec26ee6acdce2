"""The result of a run, on the terminal."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.progress import duration


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


def _mark(right: bool) -> str:
    return "[green]✓[/green]" if right else "[red]✗[/red]"
