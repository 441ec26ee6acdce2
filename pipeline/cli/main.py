"""The command line. Whatever is heavy is imported where it is used: `--help` answers at once."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from components.run.data_options import DataOptions
from components.run.evaluation_options import EvaluationOptions
from components.run.parameters import LocalInputs, RunInputs
from components.run.training_options import TrainingOptions
from components.shared.options import declared, parameters_of
from components.shared.problems import Checks, Problems, StepFailed, problem, quote
from components.shared.progress import printable_lines
from pipeline import __version__
from pipeline.cli.cluster import commands
from pipeline.cli.flags import given_only, parse_options, with_flags
from pipeline.cli.workspace import commands as workspace_commands

app = typer.Typer(
    help="Teach a language model new knowledge with OSFT and measure what it achieved.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(commands)
app.add_typer(workspace_commands, name="workspace")
OWN_DATA_FLAGS = ("columns", "accepted_judgments", "rejected_judgments", "question_columns")
DATA_FLAGS = {name: declared(DataOptions)[name] for name in OWN_DATA_FLAGS}
QUESTION_FLAGS = {"question_columns": DATA_FLAGS["question_columns"]}
FURTHER_DATA_OPTIONS = [name for name in declared(DataOptions) if name not in DATA_FLAGS]
FURTHER_TRAINING_OPTIONS = [name for name, one in declared(TrainingOptions).items() if not one.parameter]
EVALUATION_FLAGS = declared(EvaluationOptions)
FURTHER_EVALUATION_OPTIONS = [name for name, one in EVALUATION_FLAGS.items() if not one.parameter]
INPUT_FLAGS = {
    name: one
    for name, one in (declared(RunInputs) | declared(LocalInputs)).items()
    if not isinstance(one.default, dict)
}
MEMORY_OPTIONS = ("method", "unfreeze_rank_ratio", "max_seq_len", "max_tokens_per_gpu")
Cluster = Annotated[Path | None, typer.Option(help="Cluster file (TOML) with what differs from the default cluster.")]


def further(flag: str, names: list[str], panel: str) -> Any:
    """A repeatable flag for the options that have none of their own."""
    return typer.Option(flag, help=f"As name=value; repeatable: {', '.join(names)}.", rich_help_panel=panel)


@app.command()
@with_flags(
    {
        "Run": INPUT_FLAGS,
        "Data": DATA_FLAGS,
        "Training": parameters_of(TrainingOptions),
        "Evaluation": EVALUATION_FLAGS,
    },
    EvaluationOptions.REPLACED,
)
def run(
    params: Annotated[Path | None, typer.Option(help="YAML file of parameters, as submit takes it.")] = None,
    data_option: Annotated[list[str] | None, further("--data-option", FURTHER_DATA_OPTIONS, "Data")] = None,
    option: Annotated[list[str] | None, further("--option", FURTHER_TRAINING_OPTIONS, "Training")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, with what memory and how long; touch nothing.")
    ] = False,
    **flags: Any,
) -> None:
    """Run the whole pipeline on this machine."""
    from pipeline.local.checks import check_before
    from pipeline.local.parameters import read_run_parameters

    given = given_only(flags)
    holders = {"data_options": DATA_FLAGS, "evaluation_options": FURTHER_EVALUATION_OPTIONS}
    options = {holder: {name: given.pop(name) for name in names if name in given} for holder, names in holders.items()}
    options["data_options"] |= parse_options(data_option or [], "--data-option", "conflicts=keep")
    options["training_options"] = parse_options(option or [], "--option", "warmup_steps=10")
    checks = Checks()
    parameters = read_run_parameters(params, given, options, checks)
    check_before(parameters, checks)
    checks.raise_if_any()
    if dry_run:
        from pipeline.local.dry_run import forecast

        for line in forecast(parameters, Path(parameters["workspace"])).lines():
            typer.echo(line)
        return

    from pipeline.cli import terminal
    from pipeline.local import run as local
    from pipeline.local.processes import step_processes
    from pipeline.settings import load_settings

    console = terminal.Terminal()
    with _resumable(), step_processes() as processes:
        result = local.run(load_settings(), parameters, Path(parameters["workspace"]), processes, console)
    terminal.show(result.summary, console, result.published)
    if result.plan.trained and result.plan.evaluated:
        console.print(f"Nothing was trained: run {result.plan.run_key} was complete.", style="bold", highlight=False)


@app.command()
@with_flags({"Questions": QUESTION_FLAGS, "Evaluation": EVALUATION_FLAGS}, EvaluationOptions.REPLACED)
def evaluate(
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    adapted: Annotated[Path, typer.Option(help="Folder of the adapted model.")],
    questions: Annotated[str, typer.Option(help=f"{INPUT_FLAGS['questions'].help}.")],
    output: Annotated[Path, typer.Option(help="Folder for report.html, report.md and summary.json.")],
    retention_questions: Annotated[str, typer.Option(help=f"{INPUT_FLAGS['retention_questions'].help}.")] = "",
    training_data: Annotated[
        str, typer.Option(help="What was trained on: chat JSONL, or CSV with question, response; for contamination.")
    ] = "",
    held_out: Annotated[
        str, typer.Option(help="What was held out, in the same form; how likely each model finds its answers.")
    ] = "",
    system_prompt: Annotated[
        str | None, typer.Option(help="First message of every conversation; what the model was trained with.")
    ] = None,
    unfreeze_rank_ratio: Annotated[
        float | None, typer.Option(help="The training's, for the audit; what the model was trained with.")
    ] = None,
    **flags: Any,
) -> None:
    """Compare any base model with a model adapted from it, without the pipeline."""
    from rich.console import Console

    from components.evaluate.core import evaluate_alone
    from pipeline.cli import terminal
    from pipeline.local.parameters import absolute, set_or_absolute

    given = given_only(flags)
    columns = {name: given.pop(name) for name in QUESTION_FLAGS if name in given}
    summary = evaluate_alone(
        base=base.expanduser().resolve(),
        adapted=adapted.expanduser().resolve(),
        questions=absolute(questions),
        retention_questions=set_or_absolute(retention_questions),
        training_data=absolute(training_data),
        held_out=absolute(held_out),
        system_prompt=system_prompt,
        default_system_prompt=INPUT_FLAGS["system_prompt"].default,
        unfreeze_rank_ratio=unfreeze_rank_ratio,
        question_names=DataOptions.from_mapping(columns).question_names,
        options=EvaluationOptions.from_mapping(given),
        output=output.expanduser().resolve(),
    )
    terminal.show(summary, Console())


@app.command()
def compare(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="RUN", help="A run's folder, key, or a key's beginning.")
    ] = None,
    sweep: Annotated[
        Path | None,
        typer.Option(help="YAML file of parameters and `settings`: train and evaluate them one after the other first."),
    ] = None,
    workspace: Annotated[str, typer.Option(help="Folder with the runs; of a sweep, over the file's.")] = "",
    output: Annotated[Path, typer.Option(help="Folder for comparison.html, runs.csv and tests.csv.")] = Path(
        "comparison"
    ),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Of a sweep: say what would be trained and how long; touch nothing.")
    ] = False,
) -> None:
    """Compare runs: methods and settings side by side, with paired tests between them on the same questions."""
    if sweep is None or runs:
        _compare_runs(runs or [], sweep, workspace, output)
        return
    from pipeline.local.checks import check_before
    from pipeline.local.parameters import read_run_parameters

    checks = Checks()
    given = {"workspace": workspace} if workspace else {}
    parameters = read_run_parameters(sweep, given, {}, checks, sweep=True)
    check_before(parameters, checks)
    checks.raise_if_any()
    if not dry_run:
        _run_sweep(parameters, output)
        return
    from pipeline.local.dry_run import forecast_sweep

    for line in forecast_sweep(parameters, Path(parameters["workspace"])).lines():
        typer.echo(line)


def _run_sweep(parameters: dict[str, Any], output: Path) -> None:
    from pipeline.cli import comparison, terminal
    from pipeline.local import run as local
    from pipeline.local.processes import step_processes
    from pipeline.settings import load_settings

    console = terminal.Terminal()
    with _resumable(), step_processes() as processes:
        workspace = Path(parameters["workspace"])
        found = local.run_sweep(load_settings(), parameters, workspace, processes, console, output)
    comparison.show(found, console)
    typer.echo(f"report    {(output / 'comparison.html').resolve()}")


def _compare_runs(names: list[str], sweep: Path | None, workspace: str, output: Path) -> None:
    from rich.console import Console

    from components.compare import report
    from components.compare.core import compare_runs
    from pipeline.cli import comparison
    from pipeline.local.comparison import find_runs

    if sweep is not None:
        raise problem(
            "runs and --sweep are given",
            where="command line",
            rule="runs that are there are compared, or a sweep makes them",
            remedy="compare the sweep's runs with others afterwards, by their keys",
        )
    found = compare_runs(find_runs(names, Path(workspace or ".").expanduser().resolve()), {})
    page, tables = output / report.PAGE, (output / report.RUNS, output / report.TESTS)
    report.write(found, page=page, runs=tables[0], tests=tables[1])
    comparison.show(found, Console())
    typer.echo(f"report    {page.resolve()}")


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    """End with the signal's exit code when the user, or the system, stops what runs."""
    from pipeline.cli.terminal import Terminal
    from pipeline.local.processes import Stopped, stoppable

    try:
        with stoppable():
            yield
    except Stopped as stopped:
        line = "stopped; the same command continues from what is complete"
        if stopped.reached:
            line = f"stopped after {stopped.reached}; the same command continues there"
        Terminal(stderr=True).print(line, soft_wrap=True, highlight=False)
        raise typer.Exit(stopped.exit_code) from None


@app.command(name="compile")
def compile_command(
    cluster: Cluster = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
    pipeline: Annotated[str, typer.Option(help="Which one: osft, or osft-sweep for several settings.")] = "osft",
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a file is stale.")] = False,
) -> None:
    """Write a pipeline as the YAML that is imported on the cluster; without -o, both among the sources."""
    from pipeline import compile as compiling
    from pipeline.settings import load_settings

    settings = load_settings(cluster)
    if cluster is not None and output is None:
        raise problem(
            "--cluster needs --output",
            where="command line",
            rule=f"{compiling.COMPILED.name} among the sources is the default cluster's",
            remedy="add -o FILE",
        )
    if pipeline not in compiling.GRAPHS:
        raise problem(
            f"there is no pipeline {quote(pipeline)}",
            where="command line",
            rule=f"one of {', '.join(compiling.GRAPHS)}",
            remedy=f"for instance --pipeline {compiling.SWEEP}",
        )
    for name, target in ({pipeline: output} if output else compiling.COMMITTED).items():
        if check:
            compiling.check_compiled(settings, target, name)
            typer.echo(f"{target} is up to date")
        else:
            compiling.write_compiled(settings, target, name)
            typer.echo(f"wrote {target}")


@app.command()
@with_flags({"Training": {name: declared(TrainingOptions)[name] for name in MEMORY_OPTIONS}})
def plan(
    config: Annotated[Path, typer.Argument(help="A model's config.json, or the folder that holds it.")],
    gpu_memory_gib: Annotated[float | None, typer.Option(help="Memory of the GPU; the default cluster's.")] = None,
    **flags: Any,
) -> None:
    """Say from a model's config.json alone whether its training fits a GPU, and what would."""
    from rich.console import Console

    from components.models.configuration import read_config
    from pipeline.cli import terminal
    from pipeline.settings import load_settings

    memory = load_settings().gpu.memory_gib if gpu_memory_gib is None else gpu_memory_gib
    options = TrainingOptions.from_mapping(given_only(flags), {"train_dtype": "bfloat16"})
    if not terminal.show_memory(read_config(config), options, memory, Console()):
        raise typer.Exit(1)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A model's snapshot, or a workspace with some.")],
    repair: Annotated[bool, typer.Option("--repair", help="Fetch broken files again from where they came.")] = False,
) -> None:
    """Read snapshots of base models and compare them with what they were; changes nothing without --repair."""
    from components.shared.progress import duration
    from components.snapshot_model import verification

    for found in verification.verify(folder.expanduser().resolve(), repair):
        size = f"{found.bytes / 1e6:.0f} MB in {found.files} files, {duration(found.seconds)}"
        typer.echo(f"good: {found.path}, {size}")
        for name in found.repaired:
            typer.echo(f"repaired: {found.path / name}")
        for name in found.removed:
            typer.echo(f"removed: {found.path / name}")


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """The program: exit code 1 for the user's mistakes without a traceback, 2 for a misused command line."""
    try:
        app()
    except (Problems, StepFailed) as error:
        typer.secho(printable_lines(f"error: {error}"), err=True, fg=typer.colors.RED)
        raise SystemExit(1) from None
