"""The command line. Whatever is heavy is imported where it is used: `--help` answers at once."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from components.run.data_options import DESCRIPTIONS as DATA_DESCRIPTIONS
from components.run.data_options import DataOptions
from components.run.evaluation_options import DESCRIPTIONS as EVALUATION_DESCRIPTIONS
from components.run.evaluation_options import EvaluationOptions
from components.run.training_options import DESCRIPTIONS, TrainingOptions
from components.shared.problems import Problems, StepFailed, problem
from components.shared.progress import printable_lines
from pipeline import __version__
from pipeline.cli.cluster import commands
from pipeline.cli.workspace import commands as workspace_commands

app = typer.Typer(
    help="Teach a language model new knowledge with OSFT and prove what it achieved.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(commands)
app.add_typer(workspace_commands, name="workspace")
DEFAULTS = TrainingOptions()
EVALUATION = EvaluationOptions()
DATA = DataOptions()
EXAMPLES = {"--option": "warmup_steps=10", "--data-option": "conflicts=keep"}
FURTHER_DATA_OPTIONS = [name for name in vars(DATA) if name not in DATA_DESCRIPTIONS]
Cluster = Annotated[Path | None, typer.Option(help="Cluster file (TOML) with what differs from the default cluster.")]


def data_option(name: str) -> Any:
    return typer.Option(help=DATA_DESCRIPTIONS[name], rich_help_panel="Data")


def training_option(name: str) -> Any:
    return typer.Option(help=f"{DESCRIPTIONS[name].capitalize()}.", rich_help_panel="Training")


def evaluation_option(name: str) -> Any:
    return typer.Option(help=f"{EVALUATION_DESCRIPTIONS[name].capitalize()}.", rich_help_panel="Evaluation")


Questions = Annotated[
    str, typer.Option(help="Gap questions: CSV or JSONL with question, reference and verdict columns.")
]
RetentionQuestions = Annotated[
    str, typer.Option(help="General questions: CSV or JSONL with question, reference; the project's own when empty.")
]
JudgeUrl = Annotated[str, evaluation_option("judge_url")]
JudgeModel = Annotated[str, evaluation_option("judge_model")]
ClosedMin = Annotated[int, evaluation_option("closed_min")]
RegressedMax = Annotated[int, evaluation_option("regressed_max")]
RetentionDropMax = Annotated[float, evaluation_option("retention_drop_max")]
MaxAnswerTokens = Annotated[int, evaluation_option("max_answer_tokens")]
LmEvalTasks = Annotated[str, evaluation_option("lm_eval_tasks")]


@app.command()
def run(
    data: Annotated[str, typer.Option(help="SDG output: a file, folder or glob of CSV, JSONL or Parquet.")],
    questions: Questions,
    model: Annotated[str, typer.Option(help="Base model: a local folder, org/name on the hub, or s3://bucket/folder.")],
    workspace: Annotated[Path, typer.Option(help="Folder for models and results.")],
    retention_questions: RetentionQuestions = "",
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of the model on the hub.")] = "main",
    system_prompt: Annotated[str | None, typer.Option(help="Said first in every conversation.")] = None,
    columns: Annotated[str, data_option("columns")] = DATA.columns,
    accepted_judgments: Annotated[str, data_option("accepted_judgments")] = DATA.accepted_judgments,
    rejected_judgments: Annotated[str, data_option("rejected_judgments")] = DATA.rejected_judgments,
    data_option_: Annotated[
        list[str] | None,
        typer.Option(
            "--data-option",
            help=f"Further option of the data, as name=value; repeatable: {', '.join(FURTHER_DATA_OPTIONS)}.",
            rich_help_panel="Data",
        ),
    ] = None,
    unfreeze_rank_ratio: Annotated[float, training_option("unfreeze_rank_ratio")] = DEFAULTS.unfreeze_rank_ratio,
    num_epochs: Annotated[int, training_option("num_epochs")] = DEFAULTS.num_epochs,
    effective_batch_size: Annotated[int, training_option("effective_batch_size")] = DEFAULTS.effective_batch_size,
    learning_rate: Annotated[float, training_option("learning_rate")] = DEFAULTS.learning_rate,
    max_seq_len: Annotated[int, training_option("max_seq_len")] = DEFAULTS.max_seq_len,
    max_tokens_per_gpu: Annotated[int, training_option("max_tokens_per_gpu")] = DEFAULTS.max_tokens_per_gpu,
    seed: Annotated[int, training_option("seed")] = DEFAULTS.seed,
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="Further option of training_hub.osft, as name=value; repeatable.", rich_help_panel="Training"
        ),
    ] = None,
    judge_url: JudgeUrl = EVALUATION.judge_url,
    judge_model: JudgeModel = EVALUATION.judge_model,
    closed_min: ClosedMin = EVALUATION.closed_min,
    regressed_max: RegressedMax = EVALUATION.regressed_max,
    retention_drop_max: RetentionDropMax = EVALUATION.retention_drop_max,
    max_answer_tokens: MaxAnswerTokens = EVALUATION.max_answer_tokens,
    lm_eval_tasks: LmEvalTasks = EVALUATION.lm_eval_tasks,
    publish_as: Annotated[str, typer.Option(help="A good model's name; the base model's with -osft if none.")] = "",
) -> None:
    """Run the whole pipeline on this machine."""
    from rich.console import Console

    from pipeline import graph
    from pipeline.cli import terminal
    from pipeline.local import run as local
    from pipeline.local.checks import absolute, check_before
    from pipeline.local.processes import step_processes
    from pipeline.settings import load_settings

    settings = load_settings()
    workspace = workspace.expanduser().resolve()
    parameters: dict[str, Any] = {
        "data": absolute(data),
        "questions": absolute(questions),
        "retention_questions": absolute(retention_questions),
        "model": absolute(model) if Path(model).is_dir() else model,
        "revision": revision,
        "system_prompt": graph.SYSTEM_PROMPT if system_prompt is None else system_prompt,
        "data_options": {
            "columns": columns,
            "accepted_judgments": accepted_judgments,
            "rejected_judgments": rejected_judgments,
            **parse_options(data_option_ or [], "--data-option"),
        },
        "unfreeze_rank_ratio": unfreeze_rank_ratio,
        "num_epochs": num_epochs,
        "effective_batch_size": effective_batch_size,
        "learning_rate": learning_rate,
        "max_seq_len": max_seq_len,
        "max_tokens_per_gpu": max_tokens_per_gpu,
        "seed": seed,
        "training_options": parse_options(option or []),
        "judge_url": judge_url,
        "judge_model": judge_model,
        "closed_min": closed_min,
        "regressed_max": regressed_max,
        "retention_drop_max": retention_drop_max,
        "evaluation_options": {"max_answer_tokens": max_answer_tokens, "lm_eval_tasks": lm_eval_tasks},
        "publish_as": publish_as,
        "workspace": str(workspace),
    }
    console = Console()
    with step_processes() as processes:  # they import while the parameters are checked
        check_before(parameters, workspace)
        result = local.run(settings, parameters, workspace, processes, console)
    terminal.show(result.summary, console, result.published)
    if result.plan.trained and result.plan.evaluated:
        console.print(f"Nothing was trained: run {result.plan.run_key} was complete.", style="bold", highlight=False)


@app.command()
def evaluate(
    base: Annotated[Path, typer.Option(help="Folder of the base model.")],
    adapted: Annotated[Path, typer.Option(help="Folder of the adapted model.")],
    questions: Questions,
    output: Annotated[Path, typer.Option(help="Folder for report.html, report.md and summary.json.")],
    retention_questions: RetentionQuestions = "",
    training_data: Annotated[
        str, typer.Option(help="What was learnt: chat JSONL, or CSV with question, response; for contamination.")
    ] = "",
    held_out: Annotated[
        str, typer.Option(help="What was not learnt, in the same form; how likely each model finds its answers.")
    ] = "",
    system_prompt: Annotated[
        str | None, typer.Option(help="Said first in every conversation; what the model was trained with.")
    ] = None,
    unfreeze_rank_ratio: Annotated[
        float | None, typer.Option(help="The training's, for the audit; what the model was trained with.")
    ] = None,
    judge_url: JudgeUrl = EVALUATION.judge_url,
    judge_model: JudgeModel = EVALUATION.judge_model,
    closed_min: ClosedMin = EVALUATION.closed_min,
    regressed_max: RegressedMax = EVALUATION.regressed_max,
    retention_drop_max: RetentionDropMax = EVALUATION.retention_drop_max,
    max_answer_tokens: MaxAnswerTokens = EVALUATION.max_answer_tokens,
    lm_eval_tasks: LmEvalTasks = EVALUATION.lm_eval_tasks,
) -> None:
    """Compare any base model with a model adapted from it, without the pipeline."""

    from rich.console import Console

    from components.evaluate.core import evaluate_alone
    from pipeline import graph
    from pipeline.cli import terminal

    options = EvaluationOptions(
        judge_url=judge_url,
        judge_model=judge_model,
        closed_min=closed_min,
        regressed_max=regressed_max,
        retention_drop_max=retention_drop_max,
        max_answer_tokens=max_answer_tokens,
        lm_eval_tasks=lm_eval_tasks,
    )
    summary = evaluate_alone(
        base=base.expanduser().resolve(),
        adapted=adapted.expanduser().resolve(),
        questions=questions,
        retention_questions=retention_questions,
        training_data=training_data,
        held_out=held_out,
        system_prompt=system_prompt,
        default_system_prompt=graph.SYSTEM_PROMPT,
        unfreeze_rank_ratio=unfreeze_rank_ratio,
        options=options,
        output=output.expanduser().resolve(),
    )
    terminal.show(summary, Console(file=sys.stdout))


@app.command(name="compile")
def compile_command(
    cluster: Cluster = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when the file is stale.")] = False,
) -> None:
    """Write the pipeline as the YAML that is imported on the cluster."""
    from pipeline import compile as compiling
    from pipeline.settings import load_settings

    settings = load_settings(cluster)
    target = output or compiling.COMPILED
    if cluster is not None and output is None:
        raise problem(
            "--cluster needs --output",
            where="command line",
            rule=f"{compiling.COMPILED.name} among the sources is the default cluster's",
            remedy="add -o FILE",
        )
    if check:
        compiling.check_compiled(settings, target)
        typer.echo(f"{target} is up to date")
    else:
        compiling.write_compiled(settings, target)
        typer.echo(f"wrote {target}")


@app.command()
def plan(
    config: Annotated[Path, typer.Argument(help="A model's config.json, or the folder that holds it.")],
    gpu_memory_gib: Annotated[float | None, typer.Option(help="Memory of the GPU; the default cluster's.")] = None,
    unfreeze_rank_ratio: Annotated[float, training_option("unfreeze_rank_ratio")] = DEFAULTS.unfreeze_rank_ratio,
    max_seq_len: Annotated[int, training_option("max_seq_len")] = DEFAULTS.max_seq_len,
    max_tokens_per_gpu: Annotated[int, training_option("max_tokens_per_gpu")] = DEFAULTS.max_tokens_per_gpu,
) -> None:
    """Say from a model's config.json alone whether its training fits a GPU, and what would."""
    from rich.console import Console

    from components.models.folder import read_config
    from pipeline.cli import terminal
    from pipeline.settings import load_settings

    memory = load_settings().gpu.memory_gib if gpu_memory_gib is None else gpu_memory_gib
    options = TrainingOptions(
        unfreeze_rank_ratio=unfreeze_rank_ratio,
        max_seq_len=max_seq_len,
        max_tokens_per_gpu=max_tokens_per_gpu,
        train_dtype="bfloat16",
    )
    if not terminal.show_memory(read_config(config), options, memory, Console(file=sys.stdout)):
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


def parse_options(texts: list[str], flag: str = "--option") -> dict[str, Any]:
    """name=value pairs; a value is JSON where it can be read as such, and text otherwise.

    Raises:
        Problems: when there is no equals sign.
    """
    import json

    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise problem(
                f"{flag} {text!r} has no value",
                where="command line",
                rule="name=value",
                remedy=f"for instance {flag} {EXAMPLES[flag]}",
            )
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def main() -> None:
    """The program: exit code 1 for the user's mistakes without a traceback, 2 for a misused command line."""
    try:
        app()
    except (Problems, StepFailed) as error:
        typer.secho(printable_lines(f"error: {error}"), err=True, fg=typer.colors.RED)
        raise SystemExit(1) from None
