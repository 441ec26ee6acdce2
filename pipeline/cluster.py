"""What the command line does on a cluster: versions, runs and schedules of the pipeline, through kfp.Client.

The API has no update of a schedule, allows many of one name, and deletes a schedule together with its running training
(Kubernetes collects what the schedule owns). So a schedule is replaced: the new one is made, disabled; the old one is
disabled; the new one is enabled; the old one is deleted when nothing of it runs, and otherwise stays, disabled, until
the next call finds it idle. At no moment are two of a name enabled; a call that broke off is mended by the next.
"""

import dataclasses
import itertools
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import kfp_server_api

from components.problems import Problem, Problems, problem, quote
from components.progress import printable
from components.storage import sha256_of_json
from pipeline.connection import Connection, Refused
from pipeline.pipeline_file import CompiledPipeline
from pipeline.schedules import Cron

FINISHED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
PAGE = 100
MOST_PAGES = 20  # of runs that are looked through for the pipeline's newest ones
MAX_CONCURRENCY = 1  # one GPU
EQUALS = 1  # kfp's number for the operation of a filter
DIGEST = re.compile(r"content sha256:([0-9a-f]{64})")
SETTLE_SECONDS = 5.0  # until a run that a schedule has just started is in the list of runs
POLL_SECONDS = 5.0  # between two looks at a run that is followed
PATIENCE_SECONDS = 900.0  # with a connection that is lost meanwhile


@dataclasses.dataclass(frozen=True, kw_only=True)
class Version:
    """A version of the pipeline on the cluster."""

    name: str
    pipeline_id: str
    """Empty when it would be made."""
    version_id: str
    """Empty when it would be made."""
    created: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    run_id: str
    name: str
    state: str
    created_at: datetime | None
    finished_at: datetime | None
    link: str
    """In the dashboard; empty when its page is not known."""

    @property
    def finished(self) -> bool:
        return self.state in FINISHED


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    schedule_id: str
    name: str
    enabled: bool
    cron: str
    """Empty when it runs in intervals."""
    pipeline_id: str
    version_id: str
    digest: str
    """Of its content; empty when another program made it."""
    created_at: datetime | None
    link: str
    """In the dashboard; empty when its page is not known, or it would be made."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submission:
    version: Version
    run: Run | None
    """None: nothing was sent."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Removal:
    """What became of schedules that are no longer wanted."""

    removed: tuple[Schedule, ...]
    kept: tuple[tuple[Schedule, tuple[Run, ...]], ...]
    """Disabled, but with runs that have not ended."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scheduling:
    version: Version
    schedule: Schedule
    created: bool
    """False: it was there with this very content."""
    old: Removal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status:
    runs: tuple[Run, ...]
    """Newest first."""
    schedules: tuple[Schedule, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """Something that happened in a run that is followed."""

    name: str
    """A step, 'run', or 'connection'."""
    state: str
    message: str = ""


def upload(connection: Connection, pipeline: CompiledPipeline, dry_run: bool) -> Version:
    """Register the pipeline's content as a version, unless it is one already.

    Raises:
        Problems: when the API refuses.
    """
    client = connection.client
    pipeline_id = find_pipeline(connection, pipeline.name)
    version_id = _find_version(connection, pipeline_id, pipeline.version) if pipeline_id else ""
    if version_id or dry_run:
        return Version(name=pipeline.version, pipeline_id=pipeline_id, version_id=version_id, created=not version_id)
    if not pipeline_id:
        # Not Client.upload_pipeline: it would name the first version like the pipeline, whatever its content.
        body = kfp_server_api.V2beta1Pipeline(
            name=pipeline.name, display_name=pipeline.name, namespace=client.get_user_namespace() or None
        )
        pipeline_id = connection.create(
            lambda: str(client.pipelines.pipeline_service_create_pipeline(pipeline=body).pipeline_id),
            lambda: find_pipeline(connection, pipeline.name) or None,
        )
    version_id = connection.create(
        lambda: str(
            client.upload_pipeline_version(
                str(pipeline.path),
                pipeline.version,
                pipeline_id=pipeline_id,
                description=f"content sha256:{pipeline.digest}",
            ).pipeline_version_id
        ),
        lambda: _find_version(connection, pipeline_id, pipeline.version) or None,
    )
    return Version(name=pipeline.version, pipeline_id=pipeline_id, version_id=version_id, created=True)


def submit(connection: Connection, pipeline: CompiledPipeline, parameters: dict[str, Any], dry_run: bool) -> Submission:
    """Start a run of the pipeline's content, which is registered first where it is not.

    Raises:
        Problems: when the API refuses.
    """
    version = upload(connection, pipeline, dry_run)
    if dry_run:
        return Submission(version=version, run=None)
    # The name is found again when an answer is lost: a training must not start twice.
    name = f"{pipeline.name} {datetime.now(UTC):%Y-%m-%d %H-%M-%S} {secrets.token_hex(3)}"
    experiment_id = _experiment(connection, pipeline)
    client = connection.client
    created = connection.create(
        lambda: client.run_pipeline(
            experiment_id=experiment_id,
            job_name=name,
            params=parameters,
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
        ),
        lambda: next(iter(client.list_runs(page_size=1, filter=_equals("display_name", name)).runs or []), None),
    )
    return Submission(version=version, run=_run(created, connection))


def follow(
    connection: Connection,
    run_id: str,
    steps: tuple[str, ...],
    poll_seconds: float,
    patience_seconds: float,
) -> Iterator[Change]:
    """Yield what happens in a run until it has ended; the last change is the run's own.

    Faults of the connection are yielded, too, and borne for `patience_seconds`.

    Raises:
        Refused: when the API refuses, or stays away for longer.
    """
    known: dict[str, str] = {}
    lost_at: float | None = None
    while True:
        try:
            run = connection.ask(lambda: connection.client.get_run(run_id))
        except Refused as error:
            lost_at = lost_at or time.monotonic()
            if not error.passing or time.monotonic() - lost_at > patience_seconds:
                raise
            if known.get("connection") != "lost":
                known["connection"] = "lost"
                yield Change(name="connection", state="lost", message=error.problems[0].what)
            time.sleep(poll_seconds)
            continue
        if known.pop("connection", None):
            yield Change(name="connection", state="back")
        lost_at = None
        details = (run.run_details.task_details if run.run_details else None) or []
        for task in sorted((task for task in details if task.display_name in steps), key=_started):
            state = str(task.state or "PENDING")
            if known.get(task.task_id) != state:
                known[task.task_id] = state
                yield Change(name=task.display_name, state=printable(state), message=_error_text(task.error))
        state = str(run.state or "PENDING")
        if known.get("run") != state:
            known["run"] = state
            yield Change(name="run", state=printable(state), message=_error_text(run.error))
        if state in FINISHED:
            return
        time.sleep(poll_seconds)


def schedule(
    connection: Connection,
    pipeline: CompiledPipeline,
    name: str,
    cron: Cron,
    parameters: dict[str, Any],
    dry_run: bool,
    settle_seconds: float,
) -> Scheduling:
    """Let there be one enabled schedule of this name, with this content; others of the name are retired.

    Args:
        connection: to the API.
        pipeline: what runs; it is registered first where it is not.
        name: the schedule's.
        cron: when.
        parameters: of each run.
        dry_run: look, and change nothing.
        settle_seconds: how long after a schedule was disabled its last run may still appear.

    Raises:
        Problems: when the name belongs to another pipeline's schedule, or the API refuses.
    """
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
        shown = wanted or Schedule(
            schedule_id="",
            name=name,
            enabled=True,
            cron=cron.text,
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
            digest=digest,
            created_at=None,
            link="",
        )
        removal = _retire(connection, old, dry_run, settle_seconds)
        return Scheduling(version=version, schedule=shown, created=wanted is None, old=removal)
    created = _create_schedule(
        connection, pipeline, name, cron, parameters, version, digest, not _any_enabled(old), found
    )
    try:
        _disable(connection, old)
        if not created.enabled:
            connection.ask(lambda: connection.client.enable_recurring_run(created.schedule_id))
    except Refused as error:
        unfinished = Problem(
            what=f"the schedule {quote(name)} is replaced in part",
            where=created.link or f"schedule {created.schedule_id}",
            rule="the old one is disabled, then the new one is enabled",
            remedy="run the same command again: it goes on from here",
        )
        raise Problems([*error.problems, unfinished]) from None
    created = dataclasses.replace(created, enabled=True)
    if _any_enabled(old):
        time.sleep(settle_seconds)
    removal = _remove_idle(connection, old, dry_run)
    return Scheduling(version=version, schedule=created, created=True, old=removal)


def unschedule(connection: Connection, pipeline_name: str, name: str, dry_run: bool, settle_seconds: float) -> Removal:
    """Remove the schedules of a name; nothing when there is none.

    Raises:
        Problems: when the name belongs to another pipeline's schedule, or the API refuses.
    """
    check_name(name)
    found = _own_schedules(connection, name, find_pipeline(connection, pipeline_name))
    return _retire(connection, found, dry_run, settle_seconds)


def status(connection: Connection, pipeline_name: str, most_runs: int) -> Status:
    """The newest runs of the pipeline, and its schedules.

    Raises:
        Problems: when the API refuses.
    """
    pipeline_id = find_pipeline(connection, pipeline_name)
    if not pipeline_id:
        return Status(runs=(), schedules=())
    client = connection.client
    runs = _pages(
        connection,
        lambda token: client.list_runs(page_token=token, page_size=PAGE, sort_by="created_at desc"),
        "runs",
        MOST_PAGES,
    )
    own = (run for run in runs if _pipeline_of(run) == pipeline_id)
    schedules = [_schedule(item, connection) for item in _recurring_runs(connection, "")]
    return Status(
        runs=tuple(_run(run, connection) for run in itertools.islice(own, most_runs)),
        schedules=tuple(sorted((s for s in schedules if s.pipeline_id == pipeline_id), key=lambda s: s.name)),
    )


def check_name(name: str) -> None:
    """Raises:
    Problems: for a name that nobody could tell from another.
    """
    if not name or name != name.strip() or not name.isprintable() or len(name) > 100:
        raise problem(
            f"the schedule's name is {quote(name)}",
            where="NAME",
            rule="1 to 100 printable characters without blanks at the ends",
            remedy="for instance nightly",
        )


def find_pipeline(connection: Connection, name: str) -> str:
    """The pipeline's id; empty when there is none.

    Raises:
        Problems: when there are several, or the API refuses.
    """
    try:
        return connection.ask(lambda: connection.client.get_pipeline_id(name)) or ""
    except Refused:
        raise
    except ValueError:  # kfp's word for several of the name
        raise problem(
            f"there are several pipelines named {quote(name)}",
            where=connection.access.host,
            rule="one pipeline of a name",
            remedy="remove or rename the others in the dashboard",
        ) from None


def _find_version(connection: Connection, pipeline_id: str, name: str) -> str:
    found = connection.ask(
        lambda: connection.client.list_pipeline_versions(
            pipeline_id=pipeline_id, page_size=1, filter=_equals("display_name", name)
        )
    )
    return str(found.pipeline_versions[0].pipeline_version_id) if found.pipeline_versions else ""


def _experiment(connection: Connection, pipeline: CompiledPipeline) -> str:
    """The id of the experiment with the pipeline's name, made where it is missing."""
    return str(connection.ask(lambda: connection.client.create_experiment(pipeline.name)).experiment_id)


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
    experiment_id = _experiment(connection, pipeline)
    known = {schedule.schedule_id for schedule in before}

    def find() -> Any:
        made = [item for item in _recurring_runs(connection, name) if item.recurring_run_id not in known]
        return next((item for item in made if _schedule(item, connection).digest == digest), None)

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
    return _schedule(created, connection)


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
    found = [_schedule(item, connection) for item in _recurring_runs(connection, name)]
    for foreign in (s for s in found if not s.digest and s.pipeline_id != pipeline_id):
        raise problem(
            f"the schedule {quote(name)} is another pipeline's",
            where=foreign.link or f"schedule {foreign.schedule_id}",
            rule="only schedules of this pipeline are replaced or removed",
            remedy="choose another name",
        )
    return found


def _recurring_runs(connection: Connection, name: str) -> Iterator[Any]:
    """All recurring runs, or those of a name."""
    client, named = connection.client, _equals("display_name", name) if name else None
    return _pages(
        connection,
        lambda token: client.list_recurring_runs(
            page_token=token, page_size=PAGE, namespace=client.get_user_namespace(), filter=named
        ),
        "recurring_runs",
    )


def _running(connection: Connection, schedule: Schedule) -> tuple[Run, ...]:
    """The runs of a schedule that have not ended."""
    client, of_schedule = connection.client, _equals("recurring_run_id", schedule.schedule_id)
    runs = _pages(
        connection, lambda token: client.list_runs(page_token=token, page_size=PAGE, filter=of_schedule), "runs"
    )
    return tuple(run for run in (_run(item, connection) for item in runs) if not run.finished)


def _delete(connection: Connection, schedule: Schedule) -> None:
    try:
        connection.ask(lambda: connection.client.delete_recurring_run(schedule.schedule_id))
    except Refused as error:
        if error.status != 404:  # somebody else deleted it, or the answer to our first attempt was lost
            raise


def _pages(
    connection: Connection, list_page: Callable[[str], Any], items: str, most_pages: int | None = None
) -> Iterator[Any]:
    """The items of a list, page after page."""
    token = ""
    for _ in itertools.count() if most_pages is None else range(most_pages):
        page = connection.ask(lambda token=token: list_page(token))  # type: ignore[misc]
        yield from getattr(page, items) or []
        token = page.next_page_token or ""
        if not token:
            return


def _equals(key: str, value: str) -> str:
    return json.dumps({"predicates": [{"operation": EQUALS, "key": key, "stringValue": value}]})


def _run(run: Any, connection: Connection) -> Run:
    return Run(
        run_id=printable(str(run.run_id)),
        name=printable(str(run.display_name)),
        state=printable(str(run.state or "PENDING")),
        created_at=run.created_at,
        finished_at=_moment(run.finished_at),
        link=connection.access.run_link(printable(str(run.run_id))),
    )


def _schedule(item: Any, connection: Connection) -> Schedule:
    digest = DIGEST.search(item.description or "")
    reference = item.pipeline_version_reference
    cron = item.trigger.cron_schedule if item.trigger else None
    return Schedule(
        schedule_id=printable(str(item.recurring_run_id)),
        name=printable(str(item.display_name)),
        enabled=item.mode == "ENABLE",
        cron=printable(cron.cron or "") if cron else "",
        pipeline_id=_pipeline_of(item),
        version_id=str(reference.pipeline_version_id) if reference else "",
        digest=digest[1] if digest else "",
        created_at=item.created_at,
        link=connection.access.schedule_link(printable(str(item.recurring_run_id))),
    )


def _pipeline_of(item: Any) -> str:
    reference = item.pipeline_version_reference
    return str(reference.pipeline_id or "") if reference else ""


def _moment(value: Any) -> datetime | None:
    """KFP sends the year 1970 for what has not happened yet."""
    return value if isinstance(value, datetime) and value.year > 1970 else None


def _age_order(schedule: Schedule) -> tuple[datetime, str]:
    return schedule.created_at or datetime.min.replace(tzinfo=UTC), schedule.schedule_id


def _started(task: Any) -> tuple[datetime, str]:
    return _moment(task.start_time) or datetime.max.replace(tzinfo=UTC), str(task.task_id)


def _error_text(error: Any) -> str:
    return printable(str(error.message)) if error and error.message else ""
