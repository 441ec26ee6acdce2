"""A comparison as a page and as CSV files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.compare.chart import trade_off
from components.run.evaluation import Summary
from components.run.statistics import by_subject, general, p_value_words
from components.shared import pages, progress
from components.shared.storage import make_folders, write_text

if TYPE_CHECKING:
    from components.compare.core import Compared

PAGE, RUNS, TESTS = "comparison.html", "runs.csv", "tests.csv"


def write(compared: "Compared", *, page: Path, runs: Path, tests: Path) -> None:
    """Write the page and the two tables."""
    import pandas as pd

    html = pages.render(
        "components.compare",
        "report.html.j2",
        title="Comparison of runs",
        found=compared,
        chart=trade_off(compared.runs),
        by_subject=by_subject,
        general=general,
        p=lambda value: p_value_words(value).removeprefix("= "),
        duration=progress.duration,
        clean=progress.printable_lines,
    )
    write_text(page, html)
    for path, rows in ((runs, run_rows(compared)), (tests, test_rows(compared))):
        make_folders(path.parent)
        write_text(path, pd.DataFrame(rows).to_csv(index=False))


def run_rows(compared: "Compared") -> list[dict[str, Any]]:
    """A row for each run; those that failed have an error and nothing else."""
    rows = [
        {"run": name, **_numbers(run), **{f"option {o}": value for o, value in compared.options[name].items()}}
        for name, run in compared.runs.items()
    ]
    return [*rows, *({"run": name, "error": error} for name, error in compared.failed.items())]


def test_rows(compared: "Compared") -> list[dict[str, Any]]:
    """A row for each test between two runs; differences are the second's minus the first's, in percentage points."""
    rows = []
    for test in compared.tests:
        row: dict[str, Any] = {"questions": test.kind, "first": test.first, "second": test.second}
        if found := test.compared:
            row |= {
                "count": found.questions,
                "first right": found.base_right,
                "second right": found.adapted_right,
                "only second right": found.closed,
                "only first right": found.regressed,
                "points": found.difference,
                "low": found.low,
                "high": found.high,
                "p": found.p_value,
                "p, Holm": test.p_holm,
            }
        rows.append(row | {"remark": test.remark})
    return rows


def _numbers(run: Summary) -> dict[str, Any]:
    found, training = run.evaluation, run.training
    numbers: dict[str, Any] = {
        "verdict": found.gate.verdict,
        "run key": training.run_key if training else "",
        "method": training.method if training else "",
        "base model": training.plan.model_source if training else run.base,
        "commit": training.plan.model_commit if training else "",
        "grader": found.grading.grader,
    }
    kinds = {"gap": found.gap, "multiple choice": found.choices, "open-ended": found.open, "general": general(found)}
    for name, compared in (kinds | {f"subject {name}": one for name, one in by_subject(found).items()}).items():
        if compared:
            numbers |= {
                f"{name}: questions": compared.questions,
                f"{name}: base right": compared.base_right,
                f"{name}: adapted right": compared.adapted_right,
                f"{name}: closed": compared.closed,
                f"{name}: regressed": compared.regressed,
                f"{name}: points": compared.difference,
                f"{name}: low": compared.low,
                f"{name}: high": compared.high,
                f"{name}: p": compared.p_value,
            }
    numbers |= {"base perplexity": found.base_perplexity, "adapted perplexity": found.adapted_perplexity}
    if held := found.held_out:
        numbers |= {"held-out perplexity, base": held.base_perplexity, "held-out perplexity": held.adapted_perplexity}
    numbers |= {"audit": found.audit.word, "protected change ratio": found.audit.protected_change_ratio}
    if training:
        numbers |= {
            "loss": training.loss_last,
            "device": training.device,
            "training seconds": training.seconds,
            "peak GiB": training.peak_memory_gib,
            "tokens per second": training.tokens_per_second,
        }
    return numbers | {"evaluation seconds": run.seconds, "report": run.report_path}
