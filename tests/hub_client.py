"""`snapshot_model` in processes of their own: huggingface_hub reads HF_ENDPOINT when it is imported."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.shared.problems import Problem

# One call a line, one answer a line. Waits are short, the rest is as in the step.
PROGRAM = """
import dataclasses, json, os, signal, sys, time
from pathlib import Path
from components.shared.problems import Problems
from components.snapshot_model import hub, model_source
from components.snapshot_model.core import take_snapshot
model_source.DOWNLOAD_TIMEOUT_SECONDS, hub.MODEL_INFO_TIMEOUT_SECONDS, model_source.FIRST_WAIT_SECONDS = 4.0, 2.0, 0.01
{changes}
for line in sys.stdin:
    call = json.loads(line)
    if call["kill_after_seconds"]:
        import huggingface_hub.hf_api, safetensors.numpy, tokenizers  # once, and not in the time that a child has
    child = os.fork() if call["kill_after_seconds"] else 0
    if child:
        time.sleep(call["kill_after_seconds"])
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print("{{}}", flush=True)
        continue
    try:
        report = take_snapshot(model=call["model"], revision=call["revision"], workspace=Path(call["workspace"]))
        answer = {{**dataclasses.asdict(report), "path": str(report.path), "reused": report.reused}}
    except Problems as error:
        answer = {{"problems": [dataclasses.asdict(problem) for problem in error.problems]}}
    except BaseException as error:
        answer = {{"fault": repr(error)}}
    print(json.dumps(answer), flush=True)
"""


class Client:
    """`snapshot_model` in a process of its own, with one hub and one token."""

    def __init__(
        self,
        hub: str,
        home: Path,
        token: str = "",
        changes: str = "",
        prefix: Sequence[str] = (),
        offline: bool = False,
    ) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        environment |= {"HF_ENDPOINT": hub, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}
        environment |= {"HF_HUB_DOWNLOAD_TIMEOUT": "1", **({"HF_TOKEN": token} if token else {})}
        environment |= {"HF_HUB_OFFLINE": "1"} if offline else {}
        program = PROGRAM.format(changes=changes)
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", program],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def snapshot(self, model: str, workspace: Path, revision: str = "main") -> dict[str, Any]:
        """The report."""
        self.ask(model, workspace, revision)
        return self.report()

    def problem(self, model: str, workspace: Path, revision: str = "main") -> Problem:
        """The one thing found wrong."""
        self.ask(model, workspace, revision)
        answer = self._answer()
        assert "problems" in answer, answer
        (found,) = answer["problems"]
        return Problem(**found)

    def be_killed(self, model: str, workspace: Path, after_seconds: float) -> None:
        """Begin, in a process that ends by SIGKILL."""
        self.ask(model, workspace, kill_after_seconds=after_seconds)
        assert self._answer() == {}

    def ask(self, model: str, workspace: Path, revision: str = "main", kill_after_seconds: float = 0.0) -> None:
        """Begin; `report` gives what comes of it."""
        assert self.process.stdin
        call: dict[str, Any] = {"model": model, "workspace": str(workspace), "revision": revision}
        call |= {"kill_after_seconds": kill_after_seconds}
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()

    def report(self) -> dict[str, Any]:
        answer = self._answer()
        assert "path" in answer, answer
        return answer

    def kill(self) -> None:
        """SIGKILL, at whatever it is."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGSTOP: it holds what it has and does nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
            self.said.append(line)
        raise AssertionError(f"the client ended with code {self.process.wait()}")
