"""Steps as processes of this machine, forked from one that has done the imports: torch and transformers are read once
for a whole run and not once for every step. A step can die alone, as in a pod.

`StepProcesses` is the parent's side. The other side is this file run as a program: it reads a request a line, forks,
and ends what the step printed with a line of its own. While a step works it imports what the next ones will need.
"""

import contextlib
import io
import json
import logging
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

# What steps need, in the order in which they come to it: no import while a step waits to be forked takes longer than a
# few seconds, so that training_hub, which takes most, is imported in parts.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
IMPORTS = (
    *("kfp.dsl.executor_main", "components.ingest_sdg.core", "components.snapshot_model.core"),
    *("transformers.models.auto.tokenization_auto", "components.plan_training.core"),
    *("torch", "torch._dynamo", "torch.distributed.tensor", "transformers.modeling_utils"),
    *("peft", "datasets", "mini_trainer", "training_hub", "components.train_osft.core", "components.training.backend"),
    *("scipy.stats", "components.evaluate.core"),
)


class Stopped(BaseException):
    """The user, or the system, wants the run to end; the step that worked has ended."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number
        self.reached = ""
        """The step of the training after which it has a checkpoint."""


class StepProcesses:
    """Runs executors one after the other.

    They are in a session of their own: Ctrl-C on the terminal reaches this process alone, which hands it on as the
    signal that a pod gets (SIGTERM), on which a training writes a checkpoint, and waits for the step's end.
    """

    def __init__(self) -> None:
        self.token = secrets.token_hex(16)
        self.steps = 0
        self.working = False
        self.server = subprocess.Popen(
            [sys.executable, "-m", "pipeline.local.processes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "_KFP_RUNTIME": "true", "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )

    def run(
        self,
        program: str,
        function: str,
        executor_input: dict[str, Any],
        root: Path,
        environment: dict[str, str],
        log: Path,
        show: Callable[[str], None],
    ) -> int:
        """Run a step's executor, and give its exit code, negative for a signal.

        Args:
            program: the source of its wrapper, as the compiled pipeline has it; function: the wrapper's name.
            executor_input: what KFP's launcher would tell it.
            environment: variables over those of this process.
            log, show: get all that it prints, line by line.
        """
        assert self.server.stdin
        assert self.server.stdout
        log.parent.mkdir(parents=True, exist_ok=True)
        self.steps += 1
        end = f"{self.token}-{self.steps}:"
        request = {
            "end": end,
            "program": program,
            "function": function,
            "input": executor_input,
            "root": str(root),
            "environment": environment,
        }
        self.working = True
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        with log.open("w", encoding="utf-8") as file, _handing_on(self.server) as stopped:
            for line in self.server.stdout:
                before, found, code = line.partition(end)
                if before:
                    file.write(before)
                    show(before)
                if found:
                    self.working = False
                    if stopped:
                        raise Stopped(stopped[0])
                    return int(code)
        if stopped:
            raise Stopped(stopped[0])
        raise RuntimeError("the process that runs the steps has ended")

    def close(self) -> None:
        """End the process, whatever it imports, and a step that still works."""
        assert self.server.stdin
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.server.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self.server.stdin.close()
        self.server.wait()


@contextlib.contextmanager
def _handing_on(server: "subprocess.Popen[str]") -> Iterator[list[int]]:
    """Hand signals that end a program on to the step while it works; gives those that came. A second one kills it."""
    came: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        came.append(number)
        os.killpg(server.pid, signal.SIGKILL) if len(came) > 1 else server.terminate()

    before = {number: signal.signal(number, hand_on) for number in ENDING}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise Stopped for a signal that comes while no step works."""

    def stop(number: int, frame: object) -> None:
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Output(io.TextIOWrapper):
    """What a step prints to its parent. A parent that is gone is as a pod that is deleted: the step gets SIGTERM, on
    which a training writes a checkpoint, and prints to nobody from then on."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(io.FileIO(descriptor, "w", closefd=False), "utf-8", "replace", write_through=True)

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            nobody = os.open(os.devnull, os.O_WRONLY)
            for descriptor in (1, 2):
                os.dup2(nobody, descriptor)
            os.kill(os.getpid(), signal.SIGTERM)
            return len(text)


@contextlib.contextmanager
def step_processes() -> Iterator[StepProcesses]:
    processes = StepProcesses()
    try:
        yield processes
    finally:
        processes.close()


def serve(requests: Any, imports: Iterable[str]) -> None:
    """Fork a step for each request, and import in between."""
    child = 0

    def hand_on(number: int, frame: object) -> None:
        if child:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, hand_on)
    waiting = list(imports)
    while True:
        while waiting and not select.select([requests], [], [], 0)[0]:
            _import(waiting.pop(0))
        line = requests.readline()
        if not line:
            return
        request = json.loads(line)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            _become_step(request)
        while waiting and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            _import(waiting.pop(0))
        _, status = os.waitpid(child, 0)
        child = 0
        print(f"{request['end']}{os.waitstatus_to_exitcode(status)}", flush=True)


def _import(name: str) -> None:
    with contextlib.suppress(ImportError):  # the step that needs it says so
        __import__(name)


def _become_step(request: dict[str, Any]) -> None:
    """Do as the container's command does, and never return."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.stdout, sys.stderr = Output(1), Output(2)
    code = 1
    try:
        os.environ.update(request["environment"])
        root = Path(request["root"])
        tempfile.tempdir = os.environ["TMPDIR"] = str(root / "tmp")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _use_folders_of(root)
        logging.disable(logging.INFO)  # the SDK's lines, which repeat all inputs, with what an address may hold
        from kfp.dsl import executor_main

        module = root / "tmp" / "ephemeral_component.py"
        module.write_text(request["program"], encoding="utf-8")
        given = json.dumps(request["input"])
        sys.argv = ["executor_main", "--component_module_path", str(module), "--executor_input", given]
        sys.argv += ["--function_to_execute", request["function"]]
        executor_main.executor_main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _use_folders_of(root: Path) -> None:
    """Let the SDK find /minio and its like below the pod's folder: only there it may write as any user."""
    from kfp.dsl.types import artifact_types

    for scheme in ("GCS", "MINIO", "S3"):
        name = f"_{scheme}_LOCAL_MOUNT_PREFIX"
        setattr(artifact_types, name, f"{root}{getattr(artifact_types, name)}")


if __name__ == "__main__":
    serve(sys.stdin, IMPORTS)
