"""Schedules on a cluster: made, replaced, removed, through kfp.Client.

The API has no update of a schedule, allows many of one name, and deletes a schedule together with its running training
(Kubernetes collects what the schedule owns). So a schedule is replaced: the new one is made, disabled; the old one is
disabled; the new one is enabled; the old one is deleted when nothing of it runs, and otherwise stays, disabled, until
the next call finds it idle. At no moment are two of a name enabled; a call that broke off is mended by the next.
"""

import dataclasses
import time
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
    """Let there be one enabled schedule of this name, with this content; others of the name are retired. The
    pipeline is registered first where it is not; `settle_seconds` after a schedule was disabled its last run may
    still appear. Raises Problems when the name belongs to another pipeline's schedule, or the API refuses."""
    check_name(name)
    found = _own_schedules(connection, name, find_pipeline(connection, pipeline.name))
    version = upload(connection, pipeline, dry_run)
    digest = sha256_of_json(
        {"cron": cron.text, "version": version.name, "parameters": parameters, "max_concurrency": MAX_CONCURRENCY}
    )
    same = [
        s
        for s in found
        if s.enabled and version.version_id and (s.digest, s.version_id) == (digest, version.version_id)
    ]
    wanted = max(same, key=_age_order) if same else None
    old = [s for s in found if s is not wanted]
    if wanted or dry_run:
        removal = _retire(connection, old, dry_run, settle_seconds)
        return Scheduling(version=version, schedule=wanted, created=wanted is None, old=removal)
    created = _create_schedule(
        connection, pipeline, name, cron, parameters, version, digest, not _any_enabled(old), found
    )
    try:
        _disable(connection, old)
        if not created.enabled:
            connection.ask(lambda: connection.client.enable_recurring_run(created.schedule_id))
    except ApiError as error:
        unfinished = Problem(
            what=f"the schedule {quote(name)} is replaced in part",
            where=created.link or f"schedule {created.schedule_id}",
            rule="the old one is disabled, then the new one is enabled",
            remedy="run the same command again: it continues from here",
        )
        raise Problems([*error.problems, unfinished]) from None
    created = dataclasses.replace(created, enabled=True)
    if _any_enabled(old):
        time.sleep(settle_seconds)
    removal = _remove_idle(connection, old, dry_run)
    return Scheduling(version=version, schedule=created, created=True, old=removal)


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


def _create_schedule(
    connection: Connection,
    pipeline: CompiledPipeline,
    name: str,
    cron: Cron,
    parameters: dict[str, Any],
    version: Version,
    digest: str,
    enabled: bool,
    before: list[Schedule],
) -> Schedule:
    """Make a schedule; after a lost answer, take the one that was not there before."""
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
            enabled=enabled,
        ),
        find,
    )
    return schedule_of(created, connection)


def _retire(connection: Connection, schedules: list[Schedule], dry_run: bool, settle_seconds: float) -> Removal:
    """Disable schedules, and delete those of which nothing runs."""
    if not dry_run and _any_enabled(schedules):
        _disable(connection, schedules)
        time.sleep(settle_seconds)
    return _remove_idle(connection, schedules, dry_run)


def _disable(connection: Connection, schedules: list[Schedule]) -> None:
    for old in (old for old in schedules if old.enabled):
        connection.ask(lambda old=old: connection.client.disable_recurring_run(old.schedule_id))  # type: ignore[misc]


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
    try:
        connection.ask(lambda: connection.client.delete_recurring_run(schedule.schedule_id))
    except ApiError as error:
        if error.status != 404:  # somebody else deleted it, or the answer to our first attempt was lost
            raise


def _age_order(schedule: Schedule) -> tuple[datetime, str]:
    return schedule.created_at or datetime.min.replace(tzinfo=UTC), schedule.schedule_id
