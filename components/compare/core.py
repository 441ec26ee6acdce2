"""Runs side by side: what their methods and settings gained and cost, and which of the differences are shown.

`compare` is the step that ends a sweep on a cluster; `compare_runs` the same for any runs.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.compare import report
from components.compare.paired import PairedTest, incomparable, paired_tests
from components.models.reference import refer_to
from components.run.evaluation import Summary, find_evaluation
from components.run.plan import TrainingPlan, read_plans, write_plan
from components.run.statistics import general, p_value_words
from components.run.sweep import differing
from components.run.training_options import TrainingOptions
from components.shared import progress, records
from components.shared.problems import first_line, problem
from components.shared.storage import read_json
from components.shared.workspace import TRAINING_REPORT, adapted_folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """Runs side by side."""

    runs: dict[str, Summary]
    """By name, as they were given."""
    failed: dict[str, str]
    """Runs without a result, by name: the error."""
    options: dict[str, dict[str, Any]]
    """Of each run, the training options in which they differ; empty for a model that was not trained in a run."""
    tests: list[PairedTest]
    best: str
    """The run that is chosen; empty for none."""
    choice: str
    """Why, in one sentence."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a sweep found."""

    choice: str
    best: str
    """The setting that is published; empty for none."""
    metrics: dict[str, float]
    note: dict[str, Any]
    """About the best one's adapted model, for the dashboard; empty for none."""


def compare(
    *, plans: Path, outcomes: Path, workspace: Path, page: Path, runs: Path, tests: Path, adapted: Path, plan: Path
) -> SweepResult:
    """Compare a sweep's runs, and choose the one that is published.

    Args:
        plans, outcomes: what plan_sweep and run_sweep made.
        workspace: where the runs are.
        page: HTML file to write: the comparison.
        runs, tests: CSV files to write: a row for each run, a row for each test between two.
        adapted, plan: files to write for `publish`, when a run is chosen: which model, and its plan.

    Raises:
        Problems: when no setting came to an end.
    """
    planned = read_plans(plans)
    compared = compare_sweep(planned, read_json(outcomes), workspace)
    report.write(compared, page=page, runs=runs, tests=tests)
    progress.log(compared.choice)
    for name, error in compared.failed.items():
        progress.log(f"failed: {name}: {first_line(error)}")
    best = compared.runs.get(compared.best)
    note = _hand_on(best.model, planned[compared.best], workspace, adapted, plan) if best else {}
    also = f"; failed: {', '.join(compared.failed)}" if compared.failed else ""
    records.note(verdict=f"{compared.choice}{also}", good=bool(compared.best))
    metrics = {
        "settings": float(len(planned)),
        "complete": float(len(compared.runs)),
        "good": float(bool(compared.best)),
    }
    if best:
        metrics |= best.metrics
    return SweepResult(choice=compared.choice, best=compared.best, metrics=metrics, note=note)


def compare_sweep(planned: Mapping[str, TrainingPlan], errors: Mapping[str, str], workspace: Path) -> Compared:
    """Compare a sweep's runs, by its plans and the errors of the settings that failed. Raises Problems as `compare`."""
    found = {name: find_evaluation(workspace, one) for name, one in planned.items()}
    complete = {name: summary for name, summary in found.items() if summary and not errors.get(name)}
    failed = {name: errors.get(name) or "it has no evaluation" for name in planned if name not in complete}
    if not complete:
        raise problem(
            f"none of the {len(planned)} settings came to an end",
            where="; ".join(f"{name}: {first_line(error)}" for name, error in failed.items()),
            rule="a comparison is of runs that were trained and evaluated",
            remedy="correct what the errors say, then run again: what is complete is not made again",
        )
    return compare_runs(complete, failed)


def compare_runs(runs: Mapping[str, Summary], failed: Mapping[str, str]) -> Compared:
    """Put runs side by side and test the differences between each two; `failed` are shown and not compared."""
    options = {name: _options(run) for name, run in runs.items()}
    trained = {name: found for name, found in options.items() if found}
    tests = paired_tests(runs)
    best, choice = _choose(runs, tests)
    return Compared(
        runs=dict(runs),
        failed=dict(failed),
        options={name: {} for name in runs} | differing(trained),
        tests=tests,
        best=best,
        choice=choice,
    )


def _hand_on(model: str, planned: TrainingPlan, workspace: Path, adapted: Path, plan: Path) -> dict[str, Any]:
    folder = adapted_folder(workspace, model)
    refer_to(folder, TRAINING_REPORT, workspace, commit=planned.model_commit, run_key=planned.run_key).write(adapted)
    write_plan(plan, planned)
    return dict(read_json(adapted))


def _options(run: Summary) -> TrainingOptions | None:
    return run.training.plan.training_options if run.training else None


def _choose(runs: Mapping[str, Summary], tests: list[PairedTest]) -> tuple[str, str]:
    """The best run, or none, and what is to be said of it: of those that pass the gate the one that closed the most gap
    questions; then the one that answers more general ones right; then the first."""
    names = list(runs)
    if any(incomparable(runs[names[0]], runs[other]) for other in names) or any(not t.compared for t in tests):
        return "", "No run is called the best: not all of them can be compared"
    good = [name for name in names if runs[name].good]
    if not good:
        return "", f"None of {len(names)} runs passes the gate"
    best = max(good, key=lambda name: (_closed(runs[name]), _general_right(runs[name])))
    said = f"Best: {best}, which closed {_closed(runs[best])} gap questions; {len(good)} of {len(names)} pass the gate"
    against = [
        f"{other} ({_closed(runs[other])} closed, p {p_value_words(test.p_holm)})"
        for test in tests
        if best in (test.first, test.second) and test.kind == tests[0].kind and test.p_holm is not None
        if not test.shown and (other := test.second if test.first == best else test.first)
    ]
    return best, said + (f"; not shown to be better on them than {', '.join(against)}" if against else "")


def _closed(run: Summary) -> int:
    return run.evaluation.gap.closed if run.evaluation.gap else 0


def _general_right(run: Summary) -> float:
    found = general(run.evaluation)
    return found.adapted_percent if found else 0.0
