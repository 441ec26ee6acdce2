"""The same graph on this machine: every step a process of its own, no cluster, no containers."""

import contextlib
import dataclasses
import io
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from components.shared.problems import Checks, StepFailed
from components.shared.progress import SEPARATOR, printable
from components.shared.storage import read_json
from components.shared.workspace import PUBLISHED, SUMMARY, run_folder
from pipeline.placement import PLACES
from pipeline.settings import ClusterSettings

CONDITION = re.compile(r"inputs\.parameter_values\['pipelinechannel--(?P<task>.+)-(?P<output>\w+)'\] == true")
LINES_OF_A_CRASH = 30  # what is shown of a step that died without a word of its own


def run(settings: ClusterSettings, parameters: dict[str, Any], workspace: Path, console: Console) -> dict[str, Any]:
    """Run the pipeline.

    Args:
        settings: a cluster's settings; here nothing of them matters.
        parameters: the pipeline's parameters.
        workspace: where models and results go.
        console: shows the progress.

    Returns:
        the run's plan, with its summary under "summary" and published.json under "publication".

    Raises:
        StepFailed: when a step ended with an error.
    """
    from kfp import local
    from kfp.local.orchestrator.enhanced_dag_orchestrator import ConditionEvaluator

    from pipeline.graph import build

    stamp = time.strftime("%Y%m%d-%H%M%S")
    # A folder of its own: kfp.local removes a workspace that it is told of, so it is not told of ours.
    root = workspace / "kfp" / stamp
    log = workspace / "kfp" / f"{stamp}.log"
    root.mkdir(parents=True)
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(root), raise_on_error=True)
    ConditionEvaluator.evaluate_condition = staticmethod(evaluate_condition)
    with _shown(console, log), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kfp.local remarks on the images' names
        build(on_this_machine(settings))(**parameters)
    plan = read_json(next(root.glob("*/plan-training/plan")))
    folder = run_folder(workspace, plan["run_key"])
    published = read_json(folder / PUBLISHED) if (folder / PUBLISHED).exists() else None
    return plan | {"summary": read_json(folder / SUMMARY), "publication": published}


def on_this_machine(settings: ClusterSettings) -> ClusterSettings:
    """No GPU to plan for, no claim, no registry; and no exit handler, because kfp.local knows none."""
    return dataclasses.replace(
        settings,
        gpu=dataclasses.replace(settings.gpu, memory_gib=0.0, node_selector={}),
        workspace=dataclasses.replace(settings.workspace, claim=""),
        notify=dataclasses.replace(settings.notify, enabled=False),
        model_registry=dataclasses.replace(settings.model_registry, url=""),
    )


def evaluate_condition(condition: str, io_store: Any) -> bool:
    """Whether the steps under a `dsl.If` run: the task's output that it compares with True is.

    kfp.local 2.16.1 evaluates the compiled form of every such comparison to False (`inputs` is unknown to it) and
    then reports success; this takes the place of its evaluator.

    Raises:
        RuntimeError: for any other condition, because to go on with a guess would be a wrong result.
    """
    match = CONDITION.fullmatch(condition)
    if match is None:
        raise RuntimeError(f"the local runner cannot evaluate the condition {condition}")
    return io_store.get_task_output(match["task"], match["output"]) is True


@contextlib.contextmanager
def _shown(console: Console, log: Path) -> Iterator[None]:
    """Show the steps' own lines while kfp.local runs; everything, its remarks too, goes to the log file."""
    with log.open("w", encoding="utf-8") as file:
        relay = _Relay(console, file)
        with console.status("starting") if console.is_terminal else contextlib.nullcontext() as status:
            relay.status = status
            try:
                with contextlib.redirect_stdout(relay):
                    yield
            except RuntimeError:  # kfp.local's word for a failed task
                if not relay.error_shown:
                    for line in relay.last_lines:
                        console.print(Text(line))
                raise StepFailed(f"the step {relay.step} failed; all it printed is in {log}") from None


class _Relay(io.TextIOBase):
    """Passes the steps' lines on to the console, and everything to the log."""

    def __init__(self, console: Console, log: io.TextIOBase | Any) -> None:
        self.console = console
        self.log = log
        self.status: Any = None
        self.step = "kfp"
        self.error_shown = False
        self.last_lines: list[str] = []
        self._partial = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.log.write(text)
        self.log.flush()
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._line(line.strip())
        return len(text)

    def _line(self, line: str) -> None:
        self.last_lines = [*self.last_lines, printable(line)][-LINES_OF_A_CRASH:]
        step, separator, said = line.partition(SEPARATOR)
        if not separator or step not in PLACES:
            return
        self.step = step
        self.error_shown = self.error_shown or said.startswith("error: ")
        style = "red" if self.error_shown else "default"
        self.console.print(Text.assemble((f"{step:>14}", "cyan"), (SEPARATOR, "dim"), (said, style)), soft_wrap=True)
        if self.status is not None:
            self.status.update(Text.assemble((step, "cyan"), " is working"))


def absolute(uri: str) -> str:
    """A path made absolute, because the steps run elsewhere; an address as it is."""
    return uri if not uri or "://" in uri else str(Path(uri).expanduser().resolve())


def check_before(parameters: dict[str, Any], workspace: Path) -> None:
    """Find what is wrong with a run before anything starts, all of it at once.

    Raises:
        Problems: with everything found.
    """
    from components.data.questions import read_gap_questions, read_retention_questions
    from components.evaluate.harness import check_installed
    from components.format_chat.core import check_system_prompt
    from components.ingest_sdg.core import check_data
    from components.models.folder import check_model_folder
    from components.publish.core import registered_name
    from components.run.data_options import DataOptions
    from components.run.evaluation_options import EvaluationOptions
    from components.run.training_options import TrainingOptions
    from components.shared.workspace import check_workspace
    from components.snapshot_model.core import local_folder
    from pipeline.graph import EVALUATION, TRAINING

    training = {name: value for name, value in parameters.items() if hasattr(TRAINING, name)}
    evaluation = {name: value for name, value in parameters.items() if hasattr(EVALUATION, name)}

    def check_model() -> None:
        if folder := local_folder(parameters["model"]):
            check_model_folder(folder)

    checks = Checks()
    for check in (
        lambda: check_data(parameters["data"], DataOptions.from_mapping(parameters["data_options"])),
        lambda: read_gap_questions(parameters["questions"]),
        lambda: read_retention_questions(parameters["retention_questions"]),
        check_model,
        lambda: TrainingOptions.from_mapping(training, parameters["training_options"]),
        lambda: check_installed(EvaluationOptions.from_mapping(evaluation, parameters["evaluation_options"]).tasks),
        lambda: check_system_prompt(parameters["system_prompt"]),
        lambda: registered_name(parameters["publish_as"], parameters["model"]),
        lambda: check_workspace(workspace, 0),
    ):
        with checks.collecting():
            check()
    checks.raise_if_any()
