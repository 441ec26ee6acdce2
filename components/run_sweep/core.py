"""Train and evaluate the settings of a sweep, one after the other on the same GPU; one that fails stops no other.

Each setting runs the steps `train_osft` and `evaluate` as they are, as processes of their own: what one of them does to
the GPU's memory, or a crash, ends with it. Their records are below the run's, in a folder of the setting's name. What
is complete in the workspace is not made again, so that a killed pod's next attempt resumes.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from components.grading.endpoint_judge import KEY_VARIABLE
from components.run.evaluation import find_evaluation
from components.run.plan import TrainingPlan, read_plans, write_plan
from components.shared import progress, records
from components.shared.problems import first_line
from components.shared.records import FINISHED, RUN_VARIABLE, STARTED, StepRecord, read_records
from components.shared.storage import write_json

ATTEMPTS = 2  # of a setting's step that failed by no mistake of the user, or died with its pod


def run_sweep(*, dataset: Path, snapshot: Path, plans: Path, workspace: Path, outcomes: Path) -> dict[str, str]:
    """Run what `plan_sweep` planned.

    Args:
        dataset, snapshot, plans: what format_chat, snapshot_model and plan_sweep made.
        workspace: the run's workspace.
        outcomes: JSON file to write: of each setting by name an error, empty for one that is complete.
    """
    planned, found = read_plans(plans), dict[str, str]()
    for number, (name, plan) in enumerate(planned.items(), 1):
        progress.log(f"setting {name}, {number} of {len(planned)}: run {plan.run_key}")
        with tempfile.TemporaryDirectory(prefix="osft-setting-") as folder:
            found[name] = _run_setting(name, plan, dataset, snapshot, workspace, Path(folder))
        progress.log(f"setting {name}: {first_line(found[name]) or 'complete'}")
        write_json(outcomes, found)
    failed = [name for name, error in found.items() if error]
    records.note(complete=len(found) - len(failed), **({"failed": ", ".join(failed)} if failed else {}))
    return found


def _run_setting(name: str, plan: TrainingPlan, dataset: Path, snapshot: Path, workspace: Path, folder: Path) -> str:
    """Train and evaluate a setting, unless it is done; `folder` takes what the steps hand on. Gives the error."""
    if find_evaluation(workspace, plan):
        return ""
    write_plan(folder / "plan", plan)
    given = {"dataset": dataset, "snapshot": snapshot, "plan": folder / "plan", "workspace": workspace}
    steps = {
        "train_osft": {"note": folder / "adapted"},
        "evaluate": {"adapted": folder / "adapted", "page": folder / "page", "summary": folder / "summary"},
    }
    for step, inputs in steps.items():
        if error := _run_step(name, step, given | inputs):
            return error
    return ""


def _run_step(setting: str, step: str, inputs: dict[str, Path]) -> str:
    """Run a step until it succeeds, or another attempt would not help; gives its error."""
    while True:
        before = _last_record(setting, step)
        if before and before.attempt >= ATTEMPTS and before.state != FINISHED:
            return before.error or f"{step} was ended from outside {before.attempt} times (memory, time, eviction)"
        code = _run_process(setting, step, inputs)
        if code == 0:
            return ""
        after = _last_record(setting, step)
        if after is None or after.mistake:
            return after.error if after else f"{step} ended with exit code {code}"
        progress.log(f"{step} {'died' if after.state == STARTED else 'failed'} with exit code {code}")


def _run_process(setting: str, step: str, inputs: dict[str, Path]) -> int:
    """Run a step as a process and give its exit code. Raises SystemExit when this process was asked to end: the step
    then got the signal, too."""
    command = [
        sys.executable,
        "-m",
        "components.shared.step",
        step,
        *(f"{name}={path}" for name, path in inputs.items()),
    ]
    asked: list[int] = []
    with subprocess.Popen(command, env=environment_of(setting, step)) as process:  # noqa: S603 - our own program

        def hand_on(number: int, frame: object) -> None:
            asked.append(number)
            process.send_signal(number)

        before = signal.signal(signal.SIGTERM, hand_on)
        code = process.wait()
        signal.signal(signal.SIGTERM, before)
    if asked:
        raise SystemExit(128 + asked[0])
    return code


def environment_of(setting: str, step: str) -> dict[str, str]:
    """What a setting's step is given: records of its own, and the judge's key only where answers are graded."""
    run = os.environ.get(RUN_VARIABLE)
    environment = {**os.environ, **({RUN_VARIABLE: f"{run}/{setting}"} if run else {})}
    if step != "evaluate":
        environment.pop(KEY_VARIABLE, None)
    return environment


def _last_record(setting: str, step: str) -> StepRecord | None:
    folder = records.records_folder()
    return read_records(folder / setting).get(step) if folder else None
