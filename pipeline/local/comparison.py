"""Runs that a user names: folders, run keys, or the beginnings of such keys in a workspace."""

from pathlib import Path

from components.run.evaluation import Summary
from components.shared.problems import Checks, list_some
from components.shared.workspace import SUMMARY


def find_runs(names: list[str], workspace: Path) -> dict[str, Summary]:
    """The evaluations of runs, by key, or by the folder's name. Raises Problems naming all that are not found, that
    several begin with, or that cannot be read."""
    there = sorted(path.parent.name for path in (workspace / "runs").glob(f"*/{SUMMARY}"))
    folders: dict[str, Path] = {}
    missing: list[str] = []
    several: list[str] = []
    for name in names:
        folder = Path(name).expanduser()
        matches = [key for key in there if key.startswith(name)]
        if (folder / SUMMARY).is_file():
            folders[_own_name(folder.resolve(), folders)] = folder
        elif len(matches) == 1:
            folders[matches[0]] = workspace / "runs" / matches[0]
        else:
            (several if matches else missing).append(name)
    checks = Checks()
    known = f"evaluated there: {list_some(there) if there else 'none'}"
    for wrong, what in ((missing, "no evaluated run is known as"), (several, "several runs begin with")):
        if wrong:
            checks.add(
                f"{what} {', '.join(wrong)}",
                where=f"workspace {workspace}",
                rule=f"a run's folder, its key, or the beginning of a key that no other run has; {known}",
                remedy=f"look what is there: osft-pipeline workspace list {workspace}",
            )
    runs = {}
    for name, folder in folders.items():
        try:
            runs[name] = Summary.read(folder)
        except (OSError, ValueError) as error:
            checks.add(
                f"the result of {name} cannot be read: {' '.join(str(error).split())}",
                where=str(folder / SUMMARY),
                rule="what the evaluation of this release writes",
                remedy="evaluate the model again: the same run, or osft-pipeline evaluate",
            )
    if not checks.problems and len(runs) < 2:
        checks.add(
            "there is one run only" if runs else "no run is named",
            where="command line",
            rule="a comparison is of two runs or more; " + known,
            remedy="name another run, or --sweep FILE to make the runs",
        )
    checks.raise_if_any()
    return runs


def _own_name(folder: Path, taken: dict[str, Path]) -> str:
    """The folder's name, with the one above it where another run has it already."""
    known = taken.get(folder.name)
    return folder.name if known is None or known.resolve() == folder else f"{folder.parent.name}/{folder.name}"
