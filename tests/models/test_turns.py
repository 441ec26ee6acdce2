"""Runs with the same key take turns: one trains, the others wait and find its model; who was killed holds up nobody."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from components.data import chat
from components.run.training_options import TrainingOptions
from components.shared import lease, progress
from components.shared.storage import iter_jsonl, read_json, write_json, write_jsonl
from components.shared.workspace import adapted_folder, run_folder
from components.train_osft import core
from tests.run_records import PLAN, as_written, hand_on
from tests.tiny_model import write_tiny_model

KEY = "0123456789abcdef"
PRELOADED = ["components.training.backend", "components.train_osft.core", "transformers.models.llama.modeling_llama"]
PATIENCE_SECONDS = 120.0


def train(folder: Path, log: Path, patience_seconds: float, stops_at: str) -> None:
    """What a pod does; its lines go into a file, and it stops itself at the line that says `stops_at`."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, sys.stdout.fileno())
    import torch

    torch.set_num_threads(1)
    lease.SECONDS_BETWEEN_HEARTBEATS, core.LEASE_TIMEOUT_SECONDS = 0.05, patience_seconds
    write = progress.log

    def write_and_stop(text: str) -> None:
        write(text)
        if stops_at and stops_at in text:
            os.kill(os.getpid(), signal.SIGSTOP)

    progress.log = write_and_stop
    snapshot = folder / "base-snapshot.json"
    workspace, note = folder / "workspace", folder / f"{log.name}.note"
    core.train_osft(dataset=folder, snapshot=snapshot, plan=folder / "plan.json", workspace=workspace, note=note)


class Pod:
    """A process that trains the run, forked from a server that has imported everything heavy."""

    def __init__(
        self, folder: Path, name: str, *, stops_at: str = "", patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self.log = folder / f"{name}.log"
        self.log.touch()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.process = context.Process(target=train, args=(folder, self.log, patience_seconds, stops_at))
        self.process.start()

    def send(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def wait_until_it_says(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self.said():
            assert self.process.is_alive() or text in self.said(), self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def end(self) -> int:
        self.process.join(PATIENCE_SECONDS)
        assert self.process.exitcode is not None, self.said()
        return self.process.exitcode


@pytest.fixture
def planned(tmp_path):
    """A folder with a model, data and a plan for a training of some seconds."""
    base = write_tiny_model(tmp_path / "workspace" / "base", hidden_size=128, intermediate_size=512)
    write_json(base / "snapshot.json", {"files": {}})
    hand_on(base, tmp_path / "workspace", "snapshot.json")
    rows = [chat.training_row("Be brief.", f"What is {n}?", f"It is {n * n}.") for n in range(9)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    options = TrainingOptions(
        num_epochs=10, effective_batch_size=3, max_seq_len=128, max_tokens_per_gpu=256, checkpoint_minutes=0.0
    )
    write_json(tmp_path / "plan.json", as_written(PLAN, run_key=KEY, options=options.as_json()))
    return tmp_path


def assert_trained_once(folder: Path) -> None:
    workspace = folder / "workspace"
    assert [line["step"] for line in iter_jsonl(run_folder(workspace, KEY) / "metrics.jsonl")] == [*range(1, 31)]
    assert read_json(adapted_folder(workspace, KEY) / "training_report.json")["steps"] == 30
    assert sorted(path.name for path in run_folder(workspace, KEY).iterdir()) == ["hf_format", "metrics.jsonl"]


def test_of_two_runs_with_one_key_the_second_waits_and_trains_nothing(planned):
    first = Pod(planned, "first", stops_at="step 3/")
    first.wait_until_it_says("| step 3/")

    second = Pod(planned, "second")

    second.wait_until_it_says(f"run {KEY} is being trained by another run: waiting")
    first.send(signal.SIGCONT)
    assert (first.end(), second.end()) == (0, 0), first.said() + second.said()
    assert "no checkpoint was written" not in first.said()
    assert "already trained, nothing to do" in second.said()
    assert "| step " not in second.said()
    assert_trained_once(planned)


def test_the_waiting_run_resumes_at_once_when_the_one_that_trains_is_killed(planned):
    first = Pod(planned, "first", stops_at="checkpoint of step 2")
    first.wait_until_it_says("checkpoint of step 2")
    second = Pod(planned, "second")
    second.wait_until_it_says(": waiting")

    first.send(signal.SIGKILL)
    assert first.end() == -signal.SIGKILL

    second.wait_until_it_says("resumed after step")
    assert second.end() == 0
    assert_trained_once(planned)


def test_one_that_was_taken_for_dead_ends_and_leaves_the_other_alone(planned):
    first = Pod(planned, "first", stops_at="checkpoint of step 2")
    first.wait_until_it_says("checkpoint of step 2")
    second = Pod(planned, "second", patience_seconds=1.0)
    second.wait_until_it_says("resumed after step")

    first.send(signal.SIGCONT)

    assert first.end() in (143, -signal.SIGTERM), first.said()
    assert "has taken it over" in first.said()
    assert second.end() == 0, second.said()
    assert_trained_once(planned)
