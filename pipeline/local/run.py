"""`osft-pipeline run` and `compare --sweep`: the pipelines on this machine, shown on its terminal."""

import contextlib
import dataclasses
import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from components.compare import report
from components.compare.core import Compared, compare_sweep
from components.run.evaluation import Summary
from components.run.plan import TrainingPlan, read_plans
from components.run.publication import Published, read_publication
from components.shared.problems import StepFailed, problem
from components.shared.progress import SEPARATOR, printable
from components.shared.storage import read_json
from components.shared.workspace import run_folder
from pipeline.local.backend import LocalRun
from pipeline.local.driver import BackendError
from pipeline.local.launcher import StepExited
from pipeline.local.parameters import write_parameters
from pipeline.local.processes import StepProcesses, Stopped
from pipeline.placement import PLACES, SECRET_VARIABLES
from pipeline.settings import ClusterSettings

CHECKPOINT = re.compile(r"terminated after (step \d+)")  # what a training says that was stopped
GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
LINES_OF_A_CRASH = 30  # what is shown of a step that died without a word of its own
WEBHOOK = SECRET_VARIABLES["webhook"][0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What a run planned and found."""

    plan: TrainingPlan
    summary: Summary
    published: Published | None


def run(
    settings: ClusterSettings, parameters: dict[str, Any], workspace: Path, processes: StepProcesses, console: Console
) -> Result:
    """Run the pipeline; of a cluster's settings only what a laptop has as well matters. Raises StepFailed when a
    step ended with an error."""
    local = _run_graph("osft", settings, parameters, workspace, processes, console)
    plan = TrainingPlan.read(local.path_of("plan-training", "plan"))
    write_parameters(run_folder(workspace, plan.run_key), parameters)
    return Result(
        plan=plan,
        summary=Summary.read(run_folder(workspace, plan.run_key)),
        published=read_publication(workspace, plan.run_key),
    )


def run_sweep(
    settings: ClusterSettings,
    parameters: dict[str, Any],
    workspace: Path,
    processes: StepProcesses,
    console: Console,
    output: Path,
) -> Compared:
    """Run the pipeline of a sweep as `run` does; its comparison goes to the folder `output`. Raises StepFailed when a
    step ended with an error, and not when a setting failed."""
    local = _run_graph("osft-sweep", settings, parameters, workspace, processes, console)
    for artifact, name in (("report", report.PAGE), ("runs", report.RUNS), ("tests", report.TESTS)):
        output.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(local.path_of("compare", artifact), output / name)
    plans = read_plans(local.path_of("plan-sweep", "plans"))
    return compare_sweep(plans, read_json(local.path_of("run-sweep", "outcomes")), workspace)


def _run_graph(
    name: str,
    settings: ClusterSettings,
    parameters: dict[str, Any],
    workspace: Path,
    processes: StepProcesses,
    console: Console,
) -> LocalRun:
    from pipeline.compile import compile_documents

    folder = _new_folder(workspace / "kfp")
    log = folder.with_suffix(".log")
    write_parameters(folder, parameters)
    console.print(f"works on {_device()}", style="bold", highlight=False)
    pipeline = compile_documents(on_this_machine(settings, workspace), name)[0]
    with log.open("w", encoding="utf-8") as file, _display(console, file) as display:
        local = LocalRun(pipeline=pipeline, folder=folder, processes=processes, show=display.show)
        try:
            local.run(parameters)
        except (StepExited, BackendError) as error:
            display.explain(error)
            raise StepFailed(f"the step {display.step} failed; all it printed is in {log}") from None
        except Stopped as stopped:
            stopped.reached = display.reached
            raise
    return local


def _device() -> str:
    """What a run trains on here. Where the system has no GPU's device file torch finds none, and is not imported."""
    if any(map(os.path.exists, GPU_DEVICES)):
        import torch

        if torch.cuda.is_available():
            return f"the GPU {torch.cuda.get_device_name()}"
    return f"the CPU ({os.cpu_count()} cores): no GPU that torch can use is here"


def _new_folder(runs: Path) -> Path:
    """A folder for a run, named after the second in which it starts, the first that no other run has. Raises Problems
    when there can be none."""
    while True:
        folder = runs / time.strftime("%Y%m%d-%H%M%S")
        try:
            folder.mkdir(parents=True)
            return folder
        except (FileExistsError, NotADirectoryError):
            if not runs.is_dir():
                raise problem(
                    "the workspace has a file where the folder of its runs is to be",
                    where=str(runs),
                    rule="nobody else writes there",
                    remedy=f"move it away: mv {shlex.quote(str(runs))} {shlex.quote(str(runs))}.old",
                ) from None
            time.sleep(0.2)


def on_this_machine(settings: ClusterSettings, workspace: Path) -> ClusterSettings:
    """The GPU that is here, the workspace's own folder, no claim and no registry; notify where there is a webhook."""
    return dataclasses.replace(
        settings,
        gpu=dataclasses.replace(settings.gpu, memory_gib=0.0, node_selector={}),
        workspace=dataclasses.replace(settings.workspace, claim="", mount_path=str(workspace)),
        notify=dataclasses.replace(settings.notify, enabled=bool(os.environ.get(WEBHOOK))),
        model_registry=dataclasses.replace(settings.model_registry, url=""),
    )


class _Display:
    """Shows the steps' own lines; everything, the SDK's remarks too, goes to the log file."""

    def __init__(self, console: Console, log: TextIO, status: Any) -> None:
        self.console, self.log, self.status = console, log, status
        self.step = "kfp"
        self.error_shown = False
        self.reached = ""
        self.last_lines: list[str] = []

    def show(self, line: str) -> None:
        self.log.write(line)
        self.log.flush()
        line = printable(line.strip())
        self.last_lines = [*self.last_lines, line][-LINES_OF_A_CRASH:]
        step, separator, said = line.partition(SEPARATOR)
        if not separator or step not in PLACES:
            return
        self.step = step
        if found := CHECKPOINT.match(said):
            self.reached = found[1]
        self.error_shown = self.error_shown or said.startswith("error: ")
        style = "red" if self.error_shown else "default"
        self.console.print(Text.assemble((f"{step:>14}", "cyan"), (SEPARATOR, "dim"), (said, style)), soft_wrap=True)
        if self.status is not None:
            self.status.update(Text.assemble((step, "cyan"), " is working"))

    def explain(self, error: Exception) -> None:
        """Show why a step ended, unless it said so itself."""
        if not self.error_shown:
            for line in [*self.last_lines, str(error)]:
                self.console.print(Text(line))


@contextlib.contextmanager
def _display(console: Console, log: TextIO) -> Iterator[_Display]:
    with console.status("starting") if console.is_terminal else contextlib.nullcontext() as status:
        yield _Display(console, log, status)
