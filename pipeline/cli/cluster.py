"""The commands for a cluster: upload, submit, schedule, status, unschedule, release."""

import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.flags import KEYWORD, Command, with_parameters

if TYPE_CHECKING:
    from pipeline.cluster.compiled_file import CompiledPipeline
    from pipeline.cluster.connection import Connection
    from pipeline.cluster.cron import Cron
    from pipeline.cluster.runs import Version
    from pipeline.cluster.schedules import Removal

FOR_LINKS = "for links: notify.runs_page in the cluster file and --pipeline, or OSFT_KFP_DASHBOARD"
TIME = "%Y-%m-%d %H:%M:%S UTC"

commands = typer.Typer()

PipelineFile = Annotated[Path | None, typer.Option("--pipeline", help="Compiled pipeline; the project's own if none.")]
Params = Annotated[list[str] | None, typer.Option("--param", help="Parameter as name=value; repeatable.")]
ParamsFile = Annotated[Path | None, typer.Option("--params", help="YAML file of parameters; --param goes over it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, change nothing.")]
ScheduleName = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]


def _flag(name: str, help: str, **more: Any) -> inspect.Parameter:
    option = typer.Option(envvar=f"OSFT_KFP_{name.upper()}", help=help, rich_help_panel="Connection", **more)
    return inspect.Parameter(name, KEYWORD, default="", annotation=Annotated[str, option])


CONNECTION = (
    _flag("host", "Address of the KFP API (route ds-pipeline-dspa); else that of the pod's or the oc login's project."),
    _flag(
        "token",
        "Bearer token; rather in the variable, the command line is public. Else the pod's, or the oc login's.",
        show_default=False,
    ),
    _flag("ca", "PEM file of certificate authorities to trust."),
    _flag("dashboard", "For links: the page of the project's runs, https://.../PROJECT/runs; else the pipeline's own."),
)


def connected(command: Command) -> Command:
    """Let a command take the flags of a connection; they reach it as its **access."""
    return with_parameters(command, CONNECTION)


@commands.command()
@connected
def upload(
    file: Annotated[Path | None, typer.Argument(help="Compiled pipeline; the project's own if none.")] = None,
    dry_run: DryRun = False,
    **access: str,
) -> None:
    """Register the compiled pipeline on the cluster; a new version only when its content is new."""
    from pipeline.cluster import runs
    from pipeline.cluster.compiled_file import check_images

    pipeline = _pipeline(file)
    check_images(pipeline)
    _show_version(runs.upload(_connect(pipeline, **access), pipeline, dry_run), dry_run)


@commands.command()
@connected
def submit(
    param: Params = None,
    params: ParamsFile = None,
    pipeline: PipelineFile = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the steps; exit with 0 on success only.")] = False,
    dry_run: DryRun = False,
    **access: str,
) -> None:
    """Start a run on the cluster, after a check of all its parameters."""
    from pipeline.cluster import runs
    from pipeline.cluster.compiled_file import check_images
    from pipeline.parameters import read_parameters

    compiled = _pipeline(pipeline)
    _, values = _all_of(lambda: check_images(compiled), lambda: read_parameters(compiled, param or [], params))
    connection = _connect(compiled, **access)
    submission = runs.submit(connection, compiled, values, dry_run)
    _show_version(submission.version, dry_run)
    if submission.run is None:
        _show_parameters(values)
        _line("run", "would start")
        return
    _line("run", f"started as {submission.run.name}")
    _show_link(submission.run.link, submission.run.run_id)
    if wait:
        state = _follow(connection, submission.run.run_id, compiled.steps)
        if state == "FAILED":
            _show_failures(connection, submission.run.run_id, "")
        if state != "SUCCEEDED":
            raise typer.Exit(1)


@commands.command()
@connected
def schedule(
    name: ScheduleName,
    cron: Annotated[
        str, typer.Option(help="When, in UTC, as six fields: second minute hour day-of-month month day-of-week.")
    ],
    param: Params = None,
    params: ParamsFile = None,
    pipeline: PipelineFile = None,
    dry_run: DryRun = False,
    **access: str,
) -> None:
    """Run the pipeline again and again: make the schedule, or replace the one of that name.

    A training that runs is left alone. Times are UTC, unless the pipelines server sets cronScheduleTimezone.
    """
    from pipeline.cluster import schedules
    from pipeline.cluster.compiled_file import check_images
    from pipeline.cluster.cron import read_cron
    from pipeline.parameters import read_parameters

    compiled = _pipeline(pipeline)
    now = datetime.now(UTC)
    reading = (lambda: read_cron(cron, now)), (lambda: read_parameters(compiled, param or [], params))
    parsed, values, _ = _all_of(*reading, lambda: check_images(compiled))
    connection = _connect(compiled, **access)
    done = schedules.schedule(connection, compiled, name, parsed, values, dry_run, schedules.SETTLE_SECONDS)
    _show_cron(parsed, now)
    _show_version(done.version, dry_run)
    if dry_run:
        _show_parameters(values)
    if done.overtaken:
        _line("schedule", f"{name} is another call's now, made at the same time with other content")
    elif not done.created:
        _line("schedule", f"{name} is there already with this content")
    else:
        _line("schedule", f"{name} would be made" if dry_run else f"{name} is made and enabled")
        _line("", "one run at a time; times that were missed are not made up for")
    _show_removal(done.old, dry_run)
    if done.old.kept:
        _line("", "until then two can run at once: each schedule counts its own runs only")
    if done.schedule:
        _show_link(done.schedule.link, done.schedule.schedule_id)


@commands.command()
@connected
def status(
    newest: Annotated[int, typer.Option("--runs", min=1, max=1000, help="How many of the newest runs.")] = 10,
    pipeline: PipelineFile = None,
    **access: str,
) -> None:
    """Show the newest runs and the schedules."""
    from components.shared.problems import Problems
    from pipeline.cluster import runs
    from pipeline.cluster.cron import parse_cron

    compiled = _pipeline(pipeline)
    connection = _connect(compiled, **access)
    found = runs.status(connection, compiled.name, newest)
    typer.echo(f"Runs of {compiled.name}" if found.runs else f"No runs of {compiled.name}")
    for run in found.runs:
        times = " to ".join(
            f"{moment.astimezone(UTC):{TIME}}" for moment in (run.created_at, run.finished_at) if moment
        )
        typer.echo(f"  {run.state:<10} {run.name}, {times}\n             {run.link or run.run_id}")
        if run.state == "FAILED":
            _show_failures(connection, run.run_id, " " * 13)
    typer.echo(f"Schedules of {compiled.name}" if found.schedules else f"No schedules of {compiled.name}")
    for item in found.schedules:
        place = item.link or item.schedule_id
        when = item.cron or "in intervals"
        try:
            parsed = parse_cron(item.cron)
            upcoming = next(parsed.times_after(datetime.now(UTC)), None) if item.enabled else None
            when += f" ({parsed.words()})" + (f", next {upcoming:{TIME}}" if upcoming else "")
        except Problems:
            pass  # somebody else's schedule, in words that only KFP reads
        typer.echo(f"  {'ENABLED' if item.enabled else 'DISABLED':<10} {item.name}, {when}\n             {place}")
    if not connection.access.runs_page and (found.runs or found.schedules):
        typer.echo(FOR_LINKS)


@commands.command()
@connected
def unschedule(
    name: ScheduleName,
    pipeline: PipelineFile = None,
    dry_run: DryRun = False,
    **access: str,
) -> None:
    """Remove a schedule; a training that it started continues."""
    from pipeline.cluster import schedules

    compiled = _pipeline(pipeline)
    connection = _connect(compiled, **access)
    removal = schedules.unschedule(connection, compiled.name, name, dry_run, schedules.SETTLE_SECONDS)
    if not (removal.removed or removal.kept):
        _line("schedule", f"there is none named {name}")
    _show_removal(removal, dry_run)


@commands.command()
def release(
    file: Annotated[Path, typer.Argument(help="Compiled pipeline.")],
    output: Annotated[Path, typer.Argument(help="File to write, among an overlay's resources.")],
) -> None:
    """Write a compiled pipeline as Pipeline and PipelineVersion objects, for GitOps."""
    from pipeline.cluster.release import write_release

    version = write_release(file, output)
    typer.echo(f"wrote {output}: {version}")


def _pipeline(file: Path | None) -> "CompiledPipeline":
    from pipeline.cluster.compiled_file import PIPELINE, read_pipeline

    return read_pipeline(file or PIPELINE)


def _all_of(*checks: Callable[[], Any]) -> list[Any]:
    """What each of them returns, or what all of them find wrong."""
    from components.shared.problems import Checks

    found = Checks()
    returned = []
    for check in checks:
        with found.collecting():
            returned.append(check())
    found.raise_if_any()
    return returned


def _connect(pipeline: "CompiledPipeline", *, dashboard: str, **access: Any) -> "Connection":
    from pipeline.cluster.access import find_access
    from pipeline.cluster.connection import connect

    return connect(find_access(**access, runs_page=dashboard or pipeline.runs_page))


def _follow(connection: "Connection", run_id: str, steps: tuple[str, ...]) -> str:
    """Show a run's changes until it ends; gives its last state."""
    from components.shared.problems import Problems
    from pipeline.cluster import runs
    from pipeline.local.processes import Stopped, stoppable

    state = ""
    _line("waiting", "for the run's end; Ctrl-C ends the waiting, and the run continues")
    try:
        with stoppable():
            for change in runs.follow(connection, run_id, steps, runs.POLL_SECONDS, runs.LOST_SECONDS):
                message = f": {change.message}" if change.message else ""
                typer.echo(f"{datetime.now(UTC):%H:%M:%S} {change.name:>14} | {change.state}{message}")
                state = change.state if change.name == "run" else state
    except (Problems, Stopped) as error:
        typer.echo("The run is not followed any more; it continues by itself.", err=True)
        if isinstance(error, Stopped):
            raise typer.Exit(error.exit_code) from None
        raise
    return state


def _show_failures(connection: "Connection", run_id: str, indent: str) -> None:
    """Show which steps of a failed run failed, and why."""
    from pipeline.cluster.failures import failures_of

    failures = failures_of(connection, run_id)
    for failure in failures:
        attempts = f", {failure.attempts} attempts" if failure.attempts > 1 else ""
        typer.echo(f"{indent}{failure.step} failed{attempts}: {failure.reason}")
        no_log = (f"its log is not in the API: see the run's page, or oc logs {failure.pod} -c main",)
        for line in failure.error or no_log:
            typer.echo(f"{indent}    {line}")
    if not failures:
        typer.echo(f"{indent}the API does not say why: see the run's page")


def _show_version(version: "Version", dry_run: bool) -> None:
    state = "is there already" if not version.created else "would be registered" if dry_run else "is registered"
    _line("version", f"{version.name} {state}")


def _show_parameters(values: dict[str, Any]) -> None:
    import json

    for number, (name, value) in enumerate(values.items()):
        _line("parameters" if number == 0 else "", f"{name} = {json.dumps(value, ensure_ascii=False)}")


def _show_cron(cron: "Cron", now: datetime) -> None:
    import itertools

    _line("cron", f"{cron.text}: {cron.words()}; times are UTC")
    for number, moment in enumerate(itertools.islice(cron.times_after(now), 3)):
        _line("next" if number == 0 else "", f"{moment:{TIME}}")


def _show_link(link: str, own_id: str) -> None:
    _line("link" if link else "id", link or own_id)
    if not link:
        _line("", FOR_LINKS)


def _show_removal(removal: "Removal", dry_run: bool) -> None:
    for old in removal.removed:
        _line("old", f"{old.name} {old.schedule_id} {'would be removed' if dry_run else 'is removed'}")
    for old, running in removal.kept:
        verb = "would be disabled" if dry_run else "is disabled"
        _line("old", f"{old.name} {old.schedule_id} {verb}, and stays because deleting it would end what runs:")
        for run in running:
            _line("", f"{run.state} {run.link or run.run_id}")
        _line("", "the same command removes it when that has ended")


def _line(name: str, text: str) -> None:
    from components.shared.progress import printable

    typer.echo(f"{name:<12}{printable(text)}")
