"""What of a workspace may go, and how it goes.

The policy, in the order in which it applies. Anything modified in the last `older_than_days` days stays: another pod
may be writing it, or come back for it. Of the rest:

    adapted models   stay: the newest good ones (`keep` of them), the newest published one of each registered name;
                     those whose files cannot be read, because nobody can say what they are worth; and what a model that
                     stays for such a reason started from, which its evaluation needs
    base models      stay: what a model that stays was trained from; all of them while a run is under way
    reports of runs  stay: they are small, and the evidence
    all else         goes: what trainings worked with, leftovers of killed pods, records and logs of runs

Nothing is removed in place. It is renamed first, to a name that every reader takes for unfinished, so that a kill in
between leaves no folder that looks complete; the next removal clears away what is left of it.
"""

import contextlib
import dataclasses
import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from components.shared.problems import Checks, list_some
from pipeline.workspace.inventory import REMOVED, Inventory, Item, Kind, State
from pipeline.workspace.sizes import SECONDS_OF_DAY, Progress, measure

YOUNG = "modified recently"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """What a platform team decides."""

    keep: int = 2
    """So many of the newest good models stay, at least one."""
    older_than_days: int = 7
    """Anything modified in the last so many days stays."""


@dataclasses.dataclass(frozen=True)
class Decision:
    """Of one item, with the reason for it in words."""

    item: Item
    goes: bool
    reason: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one item that was to go."""

    item: Item
    removed: bool
    error: str = ""
    """Why it could not be removed; neither removed nor an error: somebody changed or removed it meanwhile."""


def decide(inventory: Inventory, policy: Policy, now: float) -> tuple[Decision, ...]:
    """What stays and what goes, in the inventory's order; `now` in seconds since 1970."""
    items, limit = inventory.items, now - policy.older_than_days * SECONDS_OF_DAY
    adapted = _decide_adapted(items, policy, limit)
    staying = [decision.item for decision in adapted.values() if not decision.goes]
    bases = _decide_bases(inventory, staying, limit)
    decided = adapted | bases
    return tuple(decided.get(item.path) or _decide_other(item, limit) for item in items)


def remove(workspace: Path, going: Iterable[Item], progress: Progress) -> Iterator[Outcome]:
    """Remove items from a workspace, a resolved path, one after the other; what was changed or removed meanwhile is
    left alone."""
    for item in going:
        path = workspace / item.path
        try:
            if _changed_since(workspace, item, progress):
                yield Outcome(item, removed=False)
                continue
            _check_removable(path)
            _remove(path)
        except FileNotFoundError:  # by another removal
            yield Outcome(item, removed=False)
        except OSError as error:
            yield Outcome(item, removed=False, error=f"{error.strerror}: {error.filename}")
        else:
            yield Outcome(item, removed=True)


def check_outcomes(outcomes: Sequence[Outcome], unreadable: Sequence[str]) -> None:
    """Raises Problems naming all that could not be looked into and all that could not be removed."""
    checks = Checks()
    rule = "whoever looks after a workspace may read and change all of it, as a user of its group"
    remedy = "run this as any user of group 0 (fsGroup, in a pod), or let the owner run chmod -R g+rwX there"
    for folder in sorted(set(unreadable)):
        checks.add("a folder cannot be read, and is left alone", where=folder, rule=rule, remedy=remedy)
    for outcome in outcomes:
        if outcome.error:
            what = f"{outcome.item.path} could not be removed: {outcome.error}"
            checks.add(what, where=outcome.item.path, rule=rule, remedy=remedy)
    checks.raise_if_any()


def order_of_removal(item: Item) -> int:
    """A model before the files of its run: when these go, the run's folder changes, and a change protects the model."""
    return (Kind.ADAPTED, Kind.BASE, Kind.WORKING, Kind.LEFTOVER, Kind.RECORD, Kind.LOG).index(item.kind)


def _decide_adapted(items: Sequence[Item], policy: Policy, limit: float) -> dict[str, Decision]:
    models = [item for item in items if item.kind == Kind.ADAPTED]
    good = [item for item in models if item.state == State.GOOD and not item.trouble]
    good.sort(key=lambda item: (item.evaluated, item.key), reverse=True)
    best = good[: max(1, policy.keep)]
    published = _newest_published(models)
    decisions = {}
    for item in models:
        reasons = [item.trouble] if item.trouble else []
        if item in best:
            rank = best.index(item) + 1
            reasons.append("newest good model" if rank == 1 else f"good model {rank} of the {len(best)} newest")
        if item in published:
            reasons.append("newest published of its name")
        if item.changed >= limit:
            reasons.append(YOUNG)
        if reasons:
            decisions[item.path] = Decision(item, False, ", ".join(reasons))
        elif item.state == State.GOOD:
            decisions[item.path] = Decision(item, True, _newer_words(len(best)))
        else:
            decisions[item.path] = Decision(item, True, item.state)
    starts = {decision.item.start: decision.item.key for decision in decisions.values() if not decision.goes}
    for item in models:
        if decisions[item.path].goes and (user := starts.get(Path(item.path).name)):
            decisions[item.path] = Decision(item, False, f"start of {user}")
    return decisions


def _newest_published(models: Sequence[Item]) -> list[Item]:
    newest: dict[tuple[str, str], tuple[datetime, Item]] = {}
    for item in models:
        if (found := item.publication) is not None and item.state != State.UNFINISHED:
            name, at = (found.registry, found.name), found.time
            if name not in newest or newest[name][0] < at:
                newest[name] = (at, item)
    return [item for _, item in newest.values()]


def _decide_bases(inventory: Inventory, staying: Sequence[Item], limit: float) -> dict[str, Decision]:
    under_way = any(
        item.kind == Kind.RUN and item.state != State.FINISHED and item.changed >= limit for item in inventory.items
    )
    unknown = inventory.unreadable or any(not item.base for item in staying)
    every = ["a run is under way"] if under_way else []
    every += ["it is not known what all models were trained from"] if unknown else []
    decisions = {}
    for item in inventory.items:
        if item.kind != Kind.BASE:
            continue
        users = [model.key for model in staying if model.base == item.key]
        reasons = [f"base of {list_some(users, 2)}"] if users else []
        reasons += [item.trouble] if item.trouble else []
        reasons += [YOUNG] if item.changed >= limit else []
        reasons = reasons or every
        why_not = State.UNFINISHED if item.state == State.UNFINISHED else "no model that stays was trained from it"
        decisions[item.path] = Decision(item, not reasons, ", ".join(reasons) or why_not)
    return decisions


def _decide_other(item: Item, limit: float) -> Decision:
    if item.kind == Kind.FOREIGN:
        return Decision(item, False, "")
    if item.kind == Kind.RUN:
        return Decision(item, False, "reports stay")
    if item.trouble:
        return Decision(item, False, item.trouble)
    if Path(item.path).name.startswith(REMOVED):
        return Decision(item, True, "rest of a removal that was ended")
    if item.changed >= limit:
        return Decision(item, False, YOUNG)
    if item.kind == Kind.WORKING:
        return Decision(item, True, "given up" if item.state == State.UNFINISHED else "its training is over")
    return Decision(item, True, "left behind by a pod that was ended" if item.kind == Kind.LEFTOVER else "old")


def _newer_words(kept: int) -> str:
    return "a newer good model stays" if kept == 1 else f"{kept} newer good models stay"


def _changed_since(workspace: Path, item: Item, progress: Progress) -> bool:
    """Whether anything was written to it since it was judged; to a model's run, too. Raises FileNotFoundError when it
    is gone."""
    newest = measure(workspace / item.path, progress).changed
    if item.kind in (Kind.ADAPTED, Kind.WORKING):
        for folder in ("runs", "adapted"):
            with contextlib.suppress(FileNotFoundError):
                newest = max(newest, measure(workspace / folder / item.key, progress).changed)
    return newest > item.changed and not Path(item.path).name.startswith(REMOVED)


def _check_removable(path: Path) -> None:
    """Before anything is touched: half a removal would cost the model and free nothing. Raises PermissionError naming
    the first folder whose content cannot be removed, and FileNotFoundError when it is gone, or a folder above it has
    become a link."""
    if os.path.realpath(path.parent) != str(path.parent):
        raise FileNotFoundError(path)
    inside = (folder for folder, _, _ in os.walk(path)) if path.is_dir() and not path.is_symlink() else ()
    for folder in (path.parent, *inside):
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            os.lstat(folder)  # another removal may have taken it just now, and that is no missing right
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _remove(path: Path) -> None:
    doomed = path
    if not path.name.startswith(REMOVED):
        doomed = path.with_name(f"{REMOVED}{uuid.uuid4().hex[:12]}")
        path.rename(doomed)
    while os.path.lexists(doomed):
        with contextlib.suppress(FileNotFoundError):  # another removal is at the same rest: both continue
            if doomed.is_dir() and not doomed.is_symlink():
                shutil.rmtree(doomed)
            else:
                doomed.unlink()
