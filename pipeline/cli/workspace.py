"""The commands for the workspace: list, prune."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.workspace.inventory import COMMIT
from pipeline.workspace.pruning import Policy
from pipeline.workspace.sizes import age_words, size_words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pipeline.workspace.inventory import Inventory, Item
    from pipeline.workspace.pruning import Decision, Outcome
    from pipeline.workspace.sizes import Progress

SCHEMA = 1  # of the JSON: higher when a field changes its meaning or goes
SECONDS_BETWEEN_LINES = 5.0
DEFAULTS = Policy()
HEADINGS = {
    "base_model": "Base models",
    "adapted_model": "Adapted models",
    "run": "Runs, whose reports stay",
    "working_files": "What trainings worked with",
    "leftover": "Leftovers",
    "record": "Records of runs on the cluster",
    "log": "Logs of runs on this machine",
    "foreign": "Not made by a run",
}
COUNTED = ("record", "log")  # small and many: one line for all of a kind

commands = typer.Typer(help="See what the workspace holds, and remove what is no longer needed.", no_args_is_help=True)

Workspace = Annotated[
    Path | None, typer.Argument(metavar="[FOLDER]", help="The workspace; if none, where pods have it mounted.")
]
Keep = Annotated[int, typer.Option(min=1, help="How many of the newest good models stay.")]
OlderThan = Annotated[
    int, typer.Option(min=0, metavar="DAYS", help="Keep anything modified in the last DAYS days; 0: nothing may run.")
]


@commands.command(name="list")
def list_command(
    workspace: Workspace = None,
    keep: Keep = DEFAULTS.keep,
    older_than: OlderThan = DEFAULTS.older_than_days,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what the workspace holds: size, age, state, and what keeps it from being pruned. Changes nothing."""
    import json

    from pipeline.workspace.pruning import check_outcomes

    root = _root(workspace)
    policy = Policy(keep=keep, older_than_days=older_than)
    now = time.time()
    inventory, decisions = _look(root, policy, now)
    if as_json:
        typer.echo(json.dumps(_document(root, policy, decisions), indent=2))
    else:
        _show_list(root, decisions, now)
    check_outcomes([], inventory.unreadable)


@commands.command()
def prune(
    workspace: Workspace = None,
    keep: Keep = DEFAULTS.keep,
    older_than: OlderThan = DEFAULTS.older_than_days,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it nothing is changed.")] = False,
) -> None:
    """Remove what is no longer needed; without --yes only say what that is, why, and how much it frees.

    Stay: the newest good models (--keep), the newest published model of each registered name, the base models that
    these were trained from, the reports of all runs, everything modified in the last --older-than days, and everything
    that no run has made.

    Go: other adapted models, other base models, checkpoints, leftovers of ended pods, records and logs of runs.
    """
    from pipeline.workspace.pruning import check_outcomes, order_of_removal

    root = _root(workspace)
    now = time.time()
    inventory, decisions = _look(root, Policy(keep=keep, older_than_days=older_than), now)
    going = sorted((one for one in decisions if one.goes), key=lambda one: order_of_removal(one.item))
    outcomes: list[Outcome] = []
    if not going:
        typer.echo(f"Nothing in {root} can go.")
    elif yes:
        outcomes = _remove(root, going)
    else:
        _show_going(root, going, decisions, now)
    check_outcomes(outcomes, inventory.unreadable)


def _root(workspace: Path | None) -> Path:
    from pipeline.settings import load_settings

    named = Path(load_settings().workspace.mount_path) if workspace is None else workspace
    return named.expanduser().resolve()


def _look(root: Path, policy: Policy, now: float) -> tuple["Inventory", tuple["Decision", ...]]:
    from pipeline.workspace.inventory import take_inventory
    from pipeline.workspace.pruning import decide

    with _counting("looking through the workspace") as progress:
        inventory = take_inventory(root, progress)
    return inventory, decide(inventory, policy, now)


def _remove(root: Path, going: Sequence["Decision"]) -> list["Outcome"]:
    from pipeline.workspace.pruning import remove

    outcomes = []
    with _counting("removing") as progress:
        for decision, outcome in zip(going, remove(root, [one.item for one in going], progress), strict=True):
            outcomes.append(outcome)
            if outcome.removed and outcome.item.kind in COUNTED:
                continue
            verb = "failed" if outcome.error else "removed" if outcome.removed else "left"
            why = outcome.error or (decision.reason if outcome.removed else "changed or removed meanwhile")
            _print(f"{verb:<8}{size_words(outcome.item.bytes):>9}  {outcome.item.path}: {why}")
    removed = [outcome.item for outcome in outcomes if outcome.removed]
    for kind in COUNTED:
        if counted := [item for item in removed if item.kind == kind]:
            total = size_words(sum(item.bytes for item in counted))
            _print(f"removed {total:>9}  {_counted_words(kind, len(counted))}")
    freed = size_words(sum(item.bytes for item in removed))
    _print(f"{len(removed)} of {len(outcomes)} removed, {freed} freed; {_free_words(root)}")
    return outcomes


def _show_list(root: Path, decisions: Sequence["Decision"], now: float) -> None:
    from rich.text import Text

    table = _table("state")
    for kind, heading in HEADINGS.items():
        of_kind = [decision for decision in decisions if decision.item.kind == kind]
        going = [decision for decision in of_kind if decision.goes]
        if not of_kind:
            continue
        title = f"{heading}, {len(of_kind)} of them" if kind in COUNTED else heading
        table.add_section()
        table.add_row(_total(of_kind), "", title, f"{len(going)} would go" if going else "", style="bold")
        for one in of_kind if kind not in COUNTED else ():
            reason = one.reason if one.reason != one.item.state and kind != "run" else ""
            state = "; ".join(filter(None, (_state(one.item), "would go" if one.goes else "", reason)))
            table.add_row(*_row(one.item, now), Text(state, "yellow" if one.goes else ""))
    _console().print(table)
    _print(f"together  {_total(decisions)}")
    _print(f"volume    {_free_words(root)}")
    going = [one for one in decisions if one.goes]
    _print(f"prune     would free {_total(going)}" if going else "prune     would remove nothing")


def _show_going(root: Path, going: Sequence["Decision"], decisions: Sequence["Decision"], now: float) -> None:
    table = _table("why it goes")
    for one in going:
        if one.item.kind not in COUNTED:
            table.add_row(*_row(one.item, now), one.reason)
    for kind in COUNTED:
        if counted := [one for one in going if one.item.kind == kind]:
            oldest = min((one.item for one in counted), key=lambda item: item.changed)
            age = f"to {age_words(now - oldest.changed)}"
            table.add_row(_total(counted), age, _counted_words(kind, len(counted)), counted[0].reason)
    table.add_section()
    table.add_row(_total(going), "", "together", "", style="bold")
    _console().print(table)
    for one in decisions:
        if one.item.kind in ("adapted_model", "base_model") and not one.goes:
            _print(f"stays   {_name(one.item)}: {one.reason}")
    _print(f"volume  {_free_words(root)} now")
    _print("Nothing was removed yet: add --yes. Reports of removed models stay.")


def _document(root: Path, policy: Policy, decisions: Sequence["Decision"]) -> dict[str, Any]:
    """docs/operations.md documents the fields."""
    import shutil
    from datetime import UTC, datetime

    def when(seconds: float) -> str:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")

    usage = shutil.disk_usage(root)
    return {
        "schema": SCHEMA,
        "workspace": str(root),
        "volume_bytes": usage.total,
        "free_bytes": usage.free,
        "keep": policy.keep,
        "older_than_days": policy.older_than_days,
        "prunable_bytes": _bytes([one for one in decisions if one.goes]),
        "items": [
            {
                **{name: getattr(one.item, name) for name in ("kind", "path", "bytes", "state")},
                "changed_at": when(one.item.changed),
                "published": _publication(one.item),
                "prunable": one.goes,
                "reason": one.reason,
            }
            for one in decisions
        ],
    }


def _publication(item: "Item") -> dict[str, str] | None:
    if (found := item.publication) is None:
        return None
    at = found.time.isoformat(timespec="seconds")
    return {"registry": found.registry, "name": found.name, "version": found.version, "published_at": at}


@contextlib.contextmanager
def _counting(what: str) -> Iterator["Progress"]:
    """Show how many files were looked at: alive on a terminal, by lines in a log; on stderr, away from the result."""
    from rich.console import Console

    console = Console(stderr=True)
    count, shown = 0, time.monotonic()
    with console.status(what) if console.is_terminal else contextlib.nullcontext() as status:

        def progress(more: int) -> None:
            nonlocal count, shown
            count += more
            if time.monotonic() - shown < (0.1 if status else SECONDS_BETWEEN_LINES):
                return
            shown = time.monotonic()
            if status:
                status.update(f"{what}: {count} files")
            else:
                typer.echo(f"{what}: {count} files", err=True)

        yield progress


def _console() -> "Console":
    from rich.console import Console

    return Console(file=sys.stdout)


def _table(last_column: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("changed", justify="right", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column(last_column, overflow="fold")
    return table


def _row(item: "Item", now: float) -> tuple[Any, ...]:
    from rich.text import Text

    return size_words(item.bytes), age_words(now - item.changed), Text(_name(item))


def _name(item: "Item") -> str:
    """As short as it is still known by: commits by their beginning, what belongs to a run by the run's key."""
    from components.shared.progress import printable

    if item.kind == "base_model":
        _, model, commit = item.path.split("/")
        return printable(f"{model.replace('--', '/', 1)} {commit[:12]}")
    if item.kind in ("adapted_model", "run", "working_files"):
        return printable(item.path.partition("/")[2])
    return printable(COMMIT.sub(lambda match: f"{match[0][:12]}…", item.path))


def _state(item: "Item") -> str:
    from components.shared.progress import printable

    if item.publication is None:
        return item.state
    return printable(f"{item.state}, published as {item.publication.name} {item.publication.version}")


def _print(text: str) -> None:
    from components.shared.progress import printable

    typer.echo(printable(text))


def _counted_words(kind: str, count: int) -> str:
    return f"{count} {HEADINGS[kind][0].lower()}{HEADINGS[kind][1:]}"


def _free_words(root: Path) -> str:
    import shutil

    usage = shutil.disk_usage(root)
    return f"{size_words(usage.free)} of {size_words(usage.total)} are free"


def _bytes(decisions: Sequence["Decision"]) -> int:
    return sum(decision.item.bytes for decision in decisions)


def _total(decisions: Sequence["Decision"]) -> str:
    return size_words(_bytes(decisions))
