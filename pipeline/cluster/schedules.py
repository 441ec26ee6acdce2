"""Schedules on a cluster: made, replaced, removed, through kfp.Client.

The API has no update of a schedule, allows many of one name, and deletes a schedule together with its running training
(Kubernetes collects what the schedule owns). So a schedule is replaced: the new one is made, disabled; the old one is
disabled; the new one is enabled; the old one is deleted when nothing of it runs, and otherwise stays, disabled, until
the next call finds it idle.

Of a name the newest schedule counts, whoever made it. Each call looks again after every change that it makes, until the
newest alone is enabled: so calls at the same time end with one, and a call that broke off is mended by the next.
"""

import dataclasses
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from components.shared.problems import Problem, Problems, problem, quote
from components.shared.storage import sha256_of_json
from pipeline.cluster.api_objects import PAGE, Run, Schedule, equals, pages_of, recurring_runs, run_of, schedule_of
from pipeline.cluster.compiled_file import CompiledPipeline
from pipeline.cluster.connection import ApiError, Connection
from pipeline.cluster.cron import Cron
from pipeline.cluster.runs import Version, experiment_of, find_pipeline, upload

MAX_CONCURRENCY = 1  # one GPU
MAX_LOOKS = 50  # at the schedules of a name, while others change them, too
MAX_CREATIONS, CREATION_SECONDS = 3, 1.0  # until a schedule is newer than those before it
SETTLE_SECONDS = 5.0  # until a run that a schedule has just started is in the list of runs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Removal:
    """What became of schedules that are no longer wanted."""

    removed: tuple[Schedule, ...]
    kept: tuple[tuple[Schedule, tuple[Run, ...]], ...]
    """Disabled, but with runs that have not ended."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scheduling:
    version: Version
    schedule: Schedule | None
    """None: it would be made."""
    created: bool
    """False: it was there with this very content."""
    overtaken: bool
    """Another call at the same time has replaced it by one with other content, which is enabled."""
    old: Removal


def schedule(
    connection: Connection,
    pipeline: CompiledPipeline,
    name: str,
    cron: Cron,
    parameters: dict[str, Any],
    dry_run: bool,
    settle_seconds: float,
) -> Scheduling:
    """Let there be one enabled schedule of this name, with this content unless another call makes one with other
    content meanwhile; the others of the name are retired. The pipeline is registered first where it is not;
    `settle_seconds` after a schedule was disabled its last run may still appear. Raises Problems when the name belongs
    to another pipeline's schedule, or the API refuses."""
    check_name(name)
    found = _own_schedules(connection, name, find_pipeline(connection, pipeline.name))
    version = upload(connection, pipeline, dry_run)
    digest = sha256_of_json(
        {"cron": cron.text, "version": version.name, "parameters": parameters, "max_concurrency": MAX_CONCURRENCY}
    )

    def is_wanted(s: Schedule) -> bool:
        return bool(version.version_id) and (s.digest, s.version_id) == (digest, version.version_id)

    newest = max(found, key=_age_order, default=None)
    own = newest if newest and is_wanted(newest) else None
    created = not (own and own.enabled)
    if dry_run:
        old = found if created else [s for s in found if s is not own]
        removal = _remove_idle(connection, old, dry_run)
        return Scheduling(
            version=version, schedule=None if created else own, created=created, overtaken=False, old=removal
        )

    def make(before: list[Schedule]) -> Schedule:
        return _create_newest(connection, pipeline, name, cron, parameters, version, digest, before)

    own = own or make(found)
    try:
        newest, old = _enable_newest(connection, name, version.pipeline_id, own, make)
    except ApiError as error:
        unfinished = Problem(
            what=f"the schedule {quote(name)} is replaced in part",
            where=own.link or f"schedule {own.schedule_id}",
            rule="the old one is disabled, then the new one is enabled",
            remedy="run the same command again: it continues from here",
        )
        raise Problems([*error.problems, unfinished]) from None
    removal = _retire(connection, old, dry_run, settle_seconds)
    return Scheduling(version=version, schedule=newest, created=created, overtaken=not is_wanted(newest), old=removal)


def unschedule(connection: Connection, pipeline_name: str, name: str, dry_run: bool, settle_seconds: float) -> Removal:
    """Remove the schedules of a name; nothing when there is none. Raises Problems when the name belongs to another
    pipeline's schedule, or the API refuses."""
    check_name(name)
    found = _own_schedules(connection, name, find_pipeline(connection, pipeline_name))
    return _retire(connection, found, dry_run, settle_seconds)


def check_name(name: str) -> None:
    """Raises Problems for a name that nobody could tell from another."""
    if not name or name != name.strip() or not name.isprintable() or len(name) > 100:
        raise problem(
            f"the schedule's name is {quote(name)}",
            where="NAME",
            rule="1 to 100 printable characters without blanks at the ends",
            remedy="for instance nightly",
        )


def _enable_newest(
    connection: Connection, name: str, pipeline_id: str, own: Schedule, make: Callable[[list[Schedule]], Schedule]
) -> tuple[Schedule, list[Schedule]]:
    """Let the newest schedule of a name be enabled and all others disabled; gives it, and the others. It is this call's
    own, or was made later. Raises ApiError when the API refuses, Problems when others change them all the time."""
    for _ in range(MAX_LOOKS):
        found = _own_schedules(connection, name, pipeline_id)
        newest = max(found, key=_age_order, default=None)
        if newest is None or _age_order(newest) < _age_order(own):  # somebody has deleted it
            own = make(found)
            continue
        old = [s for s in found if s is not newest]
        if newest.enabled and not _any_enabled(old):
            return newest, old
        _disable(connection, old)
        if not newest.enabled:
            _unless_gone(connection, lambda newest=newest: connection.client.enable_recurring_run(newest.schedule_id))  # type: ignore[misc]
    raise problem(
        f"the schedule {quote(name)} changes again and again",
        where=own.link or f"schedule {own.schedule_id}",
        rule="the newest schedule of a name is enabled, and no other",
        remedy="find out who else makes schedules of this name, then run the same command again",
        may_pass=True,
    )


def _create_newest(
    connection: Connection,
    pipeline: CompiledPipeline,
    name: str,
    cron: Cron,
    parameters: dict[str, Any],
    version: Version,
    digest: str,
    before: list[Schedule],
) -> Schedule:
    """Make a schedule that is newer than those before it: the API's times are of whole seconds."""
    for _ in range(MAX_CREATIONS):
        made = _create_schedule(connection, pipeline, name, cron, parameters, version, digest, before)
        later = [s for s in before if _age_order(s) > _age_order(made)]
        if not later:
            return made
        _delete(connection, made)
        time.sleep(CREATION_SECONDS)
    raise problem(
        f"a schedule {quote(name)} is of the future",
        where=later[0].link or f"schedule {later[0].schedule_id}",
        rule="a schedule that is made now is the newest",
        remedy="delete that one in the dashboard, then run the same command again",
    )


def _create_schedule(
    connection: Connection,
    pipeline: CompiledPipeline,
    name: str,
    cron: Cron,
    parameters: dict[str, Any],
    version: Version,
    digest: str,
    before: list[Schedule],
) -> Schedule:
    """Make a schedule, disabled; after a lost answer, take the one that was not there before."""
    experiment_id = experiment_of(connection, pipeline)
    known = {schedule.schedule_id for schedule in before}

    def find() -> Any:
        made = [item for item in recurring_runs(connection, name) if item.recurring_run_id not in known]
        return next((item for item in made if schedule_of(item, connection).digest == digest), None)

    created = connection.create(
        lambda: connection.client.create_recurring_run(
            experiment_id=experiment_id,
            job_name=name,
            description=f"{cron.words()}, UTC; by osft-pipeline schedule; content sha256:{digest}",
            cron_expression=cron.text,
            max_concurrency=MAX_CONCURRENCY,
            no_catchup=True,
            params=parameters,
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
            enabled=False,
        ),
        find,
    )
    return schedule_of(created, connection)


def _retire(connection: Connection, schedules: list[Schedule], dry_run: bool, settle_seconds: float) -> Removal:
    """Disable schedules, and delete those of which nothing runs."""
    if schedules and not dry_run:
        _disable(connection, schedules)
        time.sleep(settle_seconds)  # another call may have disabled them a moment ago
    return _remove_idle(connection, schedules, dry_run)


def _disable(connection: Connection, schedules: list[Schedule]) -> None:
    for old in (old for old in schedules if old.enabled):
        _unless_gone(connection, lambda old=old: connection.client.disable_recurring_run(old.schedule_id))  # type: ignore[misc]


def _remove_idle(connection: Connection, schedules: list[Schedule], dry_run: bool) -> Removal:
    """Delete disabled schedules, but not those with runs that have not ended: these would be deleted, too."""
    removed, kept = [], []
    for old in schedules:
        if running := _running(connection, old):
            kept.append((old, running))
            continue
        if not dry_run:
            _delete(connection, old)
        removed.append(old)
    return Removal(removed=tuple(removed), kept=tuple(kept))


def _any_enabled(schedules: list[Schedule]) -> bool:
    return any(schedule.enabled for schedule in schedules)


def _own_schedules(connection: Connection, name: str, pipeline_id: str) -> list[Schedule]:
    """The schedules of a name, all of which must be this pipeline's or made by this program."""
    found = [schedule_of(item, connection) for item in recurring_runs(connection, name)]
    for foreign in (s for s in found if not s.digest and s.pipeline_id != pipeline_id):
        raise problem(
            f"the schedule {quote(name)} is another pipeline's",
            where=foreign.link or f"schedule {foreign.schedule_id}",
            rule="only schedules of this pipeline are replaced or removed",
            remedy="choose another name",
        )
    return found


def _running(connection: Connection, schedule: Schedule) -> tuple[Run, ...]:
    """The runs of a schedule that have not ended."""
    client, of_schedule = connection.client, equals("recurring_run_id", schedule.schedule_id)
    runs = pages_of(
        connection, lambda token: client.list_runs(page_token=token, page_size=PAGE, filter=of_schedule), "runs"
    )
    return tuple(run for run in (run_of(item, connection) for item in runs) if not run.finished)


def _delete(connection: Connection, schedule: Schedule) -> None:
    _unless_gone(connection, lambda: connection.client.delete_recurring_run(schedule.schedule_id))


def _unless_gone(connection: Connection, change: Callable[[], Any]) -> None:
    """Change a schedule, unless somebody else has deleted it, or the answer to our first attempt to was lost."""
    try:
        connection.ask(change)
    except ApiError as error:
        if error.status != 404:
            raise


def _age_order(schedule: Schedule) -> tuple[datetime, str]:
    return schedule.created_at or datetime.min.replace(tzinfo=UTC), schedule.schedule_id
