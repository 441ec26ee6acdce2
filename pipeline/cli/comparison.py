"""A comparison of runs, on the terminal."""

import re

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.compare.core import Compared
from components.run.findings import Comparison
from components.run.statistics import by_subject, general, p_value_words
from components.shared.problems import first_line
from components.shared.progress import duration, printable

RUN_KEY, SHORT = re.compile(r"[0-9a-f]{16}"), 8
MAX_SUBJECTS = 5  # of a run that lost, named here; the page has all


def show(compared: Compared, console: Console) -> None:
    """Print the runs' results and costs, the tests between them, and the best one."""
    console.print()
    console.print(_results(compared))
    console.print(_costs(compared))
    console.print(_tests(compared))
    for name, run in compared.runs.items():
        lost = [f"{subject} {one.difference:+.0f}" for subject, one in by_subject(run.evaluation).items()
                if one.difference < 0]  # fmt: skip
        if lost:
            more = f" and {len(lost) - MAX_SUBJECTS} more" if len(lost) > MAX_SUBJECTS else ""
            _line("subjects", f"{name}, points lost: {', '.join(lost[:MAX_SUBJECTS])}{more}", console)
    for name, error in compared.failed.items():
        _line("failed", f"{name}: {first_line(error)}", console)
    _line(
        "tests",
        "exact McNemar on the same questions; p corrected by Holm over the pairs of a kind of question",
        console,
    )
    _line("result", compared.choice, console)


def _results(compared: Compared) -> Table:
    table = _table("run", "gate", "gap questions right", "general questions right", "perplexity", "audit")
    for name, run in compared.runs.items():
        found = run.evaluation
        gap, kept = found.gap, general(found)
        table.add_row(
            _label(name),
            found.gate.verdict,
            _right(gap),
            _right(kept),
            f"{found.base_perplexity:.2f} → {found.adapted_perplexity:.2f}",
            found.audit.word or "-",
        )
    return table


def _costs(compared: Compared) -> Table:
    table = _table("run", "options that differ", "training", "evaluation", "peak GiB", "tokens/s", "loss")
    for name, run in compared.runs.items():
        training = run.training
        options = ", ".join(f"{o} {value}" for o, value in compared.options[name].items())
        costs = (
            (f"{training.peak_memory_gib:.1f}", f"{training.tokens_per_second:.0f}", f"{training.loss_last:.3f}")
            if training
            else ("-", "-", "-")
        )
        took = duration(training.seconds) if training else "-"
        table.add_row(_label(name), escape(printable(options or "-")), took, duration(run.seconds), *costs)
    return table


def _tests(compared: Compared) -> Table:
    table = _table("questions", "first", "second", "right", "points", "p", "p, Holm", "")
    for test in compared.tests:
        if found := test.compared:
            said = (
                f"{found.base_right}, {found.adapted_right} of {found.questions}",
                _points(found),
                p_value_words(found.p_value).removeprefix("= "),
                p_value_words(test.p_holm if test.p_holm is not None else 1.0).removeprefix("= "),
                "; ".join(filter(None, ("shown" if test.shown else "not shown", test.remark))),
            )
        else:
            said = ("-", "-", "-", "-", f"not comparable: {test.remark}")
        table.add_row(test.kind, _label(test.first), _label(test.second), *(escape(printable(text)) for text in said))
    return table


def _label(name: str) -> str:
    """A run's name as a cell; of a run key so much as is enough to name it."""
    return escape(printable(name[:SHORT] if RUN_KEY.fullmatch(name) else name))


def _right(found: Comparison | None) -> str:
    if not found:
        return "-"
    return f"{found.base_right} → {found.adapted_right} of {found.questions}\n{_points(found)}"


def _points(found: Comparison | None) -> str:
    return f"{found.difference:+.1f} ({found.low:+.1f} to {found.high:+.1f})" if found else "-"


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _line(name: str, text: str, console: Console) -> None:
    console.print(f"{name:<10}{escape(printable(text))}", highlight=False, soft_wrap=True)
