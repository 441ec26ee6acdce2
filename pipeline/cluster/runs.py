"""What the command line does on a cluster: versions and runs of the pipeline, through kfp.Client."""

import dataclasses
import itertools
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import kfp_server_api

from components.shared.problems import problem, quote
from components.shared.progress import printable
from pipeline.cluster.api_objects import (
    FINISHED,
    PAGE,
    UNFINISHED,
    UNSPECIFIED,
    Run,
    Schedule,
    equals,
    pages_of,
    parse_time,
    pipeline_of,
    recurring_runs,
    run_of,
    schedule_of,
)
from pipeline.cluster.compiled_file import CompiledPipeline
from pipeline.cluster.connection import ApiError, Connection

MAX_PAGES = 20  # of runs that are looked through for the pipeline's newest ones
POLL_SECONDS = 5.0  # between two looks at a run that is followed
LOST_SECONDS = 900.0  # for which a lost connection is borne


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
class Submission:
    version: Version
    run: Run | None
    """None: nothing was sent."""


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
    """Register the pipeline's content as a version, unless it is one already. Raises Problems when the API refuses."""
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
    """Start a run of the pipeline's content, which is registered first where it is not. Raises Problems when the API
    refuses."""
    version = upload(connection, pipeline, dry_run)
    if dry_run:
        return Submission(version=version, run=None)
    # The name is found again when an answer is lost: a training must not start twice.
    name = f"{pipeline.name} {datetime.now(UTC):%Y-%m-%d %H-%M-%S} {secrets.token_hex(3)}"
    experiment_id = experiment_of(connection, pipeline)
    client = connection.client
    created = connection.create(
        lambda: client.run_pipeline(
            experiment_id=experiment_id,
            job_name=name,
            params=parameters,
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
        ),
        lambda: next(iter(client.list_runs(page_size=1, filter=equals("display_name", name)).runs or []), None),
    )
    return Submission(version=version, run=run_of(created, connection))


def follow(
    connection: Connection, run_id: str, steps: tuple[str, ...], poll_seconds: float, lost_seconds: float
) -> Iterator[Change]:
    """Yield what happens in a run until it has ended; the last change is the run's own.

    Faults of the connection are yielded, too, and borne for `lost_seconds`, as a state that the API does not specify.
    Raises ApiError when the API refuses, or stays away for longer, and Problems when nobody knows whether the run has
    ended."""
    known: dict[str, str] = {}
    lost_at: float | None = None
    unspecified_at: float | None = None
    while True:
        try:
            run = connection.ask(lambda: connection.client.get_run(run_id))
        except ApiError as error:
            lost_at = lost_at or time.monotonic()
            if not error.may_pass or time.monotonic() - lost_at > lost_seconds:
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
        # A task without a state is left out: what it waited for failed, or its condition did not hold.
        for task in sorted((task for task in details if task.state and task.display_name in steps), key=_started):
            state = str(task.state)
            if known.get(task.task_id) != state:
                known[task.task_id] = state
                yield Change(name=task.display_name, state=printable(state), message=_error_text(task.error))
        state = str(run.state or "PENDING")
        if known.get("run") != state:
            known["run"] = state
            yield Change(name="run", state=printable(state), message=_error_text(run.error))
        if state in FINISHED:
            return
        unspecified_at = (unspecified_at or time.monotonic()) if state == UNSPECIFIED else None
        is_borne = unspecified_at is not None and time.monotonic() - unspecified_at <= lost_seconds
        if state not in UNFINISHED and not is_borne:
            raise problem(
                f"the run is in a state that this program does not know: {quote(state)}",
                where=run_of(run, connection).link or f"run {printable(run_id)}",
                rule=f"waiting goes by {', '.join(FINISHED)} and {', '.join(UNFINISHED)}",
                remedy="the run goes on: look at it in the dashboard, or run osft-pipeline status",
            )
        time.sleep(poll_seconds)


def status(connection: Connection, pipeline_name: str, max_runs: int) -> Status:
    """The newest runs of the pipeline, and its schedules. Raises Problems when the API refuses."""
    pipeline_id = find_pipeline(connection, pipeline_name)
    if not pipeline_id:
        return Status(runs=(), schedules=())
    client = connection.client
    runs = pages_of(
        connection,
        lambda token: client.list_runs(page_token=token, page_size=PAGE, sort_by="created_at desc"),
        "runs",
        MAX_PAGES,
    )
    own = (run for run in runs if pipeline_of(run) == pipeline_id)
    schedules = [schedule_of(item, connection) for item in recurring_runs(connection, "")]
    return Status(
        runs=tuple(run_of(run, connection) for run in itertools.islice(own, max_runs)),
        schedules=tuple(sorted((s for s in schedules if s.pipeline_id == pipeline_id), key=lambda s: s.name)),
    )


def find_pipeline(connection: Connection, name: str) -> str:
    """The pipeline's id; empty when there is none. Raises Problems when there are several, or the API refuses."""
    try:
        return connection.ask(lambda: connection.client.get_pipeline_id(name)) or ""
    except ApiError:
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
            pipeline_id=pipeline_id, page_size=1, filter=equals("display_name", name)
        )
    )
    return str(found.pipeline_versions[0].pipeline_version_id) if found.pipeline_versions else ""


def experiment_of(connection: Connection, pipeline: CompiledPipeline) -> str:
    """The id of the experiment with the pipeline's name, made where it is missing."""

    def find_or_create() -> Any:
        return connection.client.create_experiment(pipeline.name)

    return str(connection.create(find_or_create, find_or_create).experiment_id)


def _started(task: Any) -> tuple[datetime, str]:
    return parse_time(task.start_time) or datetime.max.replace(tzinfo=UTC), str(task.task_id)


def _error_text(error: Any) -> str:
    return printable(str(error.message)) if error and error.message else ""
