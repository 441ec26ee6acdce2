"""A training that is killed again and again ends with the bits of an undisturbed one.

Each attempt is a process, forked from a server that has imported everything heavy: it starts in a fraction of a second.
"""

import contextlib
import json
import multiprocessing
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.shared.storage import read_jsonl, sha256_of_file
from components.training.checkpoints import MANIFEST
from tests.tiny_model import write_tiny_model

PRELOADED = ["components.training.backend", "transformers.models.llama.modeling_llama", "mini_trainer.osft_utils"]
STEPS = 60
KILLS = 10
MAX_ATTEMPTS = 40
PATIENCE_SECONDS = 60.0
SIZES = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3}
OPTIONS = {"train_dtype": "bfloat16", "checkpoint_minutes": 0.0, "num_epochs": 20, "learning_rate": 1e-4}
# Where a kill may hit, the ones that can be aimed at first; those after the last checkpoint come last.
PLAN = ["reading", "step", "checkpoint", "reading", "checkpoint", "step", "step", "checkpoint", "model", "model"]


def train(model: str, output: str, log: str) -> None:
    """What a process does; its lines go into a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, sys.stdout.fileno())
    import torch

    from tests.tiny_model import train_tiny_model

    torch.set_num_threads(1)
    train_tiny_model(Path(model), Path(output), **OPTIONS)


class Attempt:
    """A running training in a process of its own."""

    def __init__(self, model: Path, output: Path) -> None:
        self.output, self.log = output, output.with_name(f"{output.name}-{time.monotonic_ns()}.log")
        self.log.touch()
        self.before = self.remains()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.process = context.Process(target=train, args=(str(model), str(output), str(self.log)))
        self.process.start()

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def remains(self) -> set[Path]:
        """What is being written, or was when something died."""
        return {*self.output.glob("checkpoints/.tmp-step-*"), *self.output.glob("hf_format/.tmp-samples_*")}

    def wait_until(self, reached: Callable[[], Any]) -> None:
        """Until it is reached or the process has ended."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not reached() and self.process.is_alive():
            assert time.monotonic() < give_up, self.said()
            time.sleep(0.0005)

    def writes(self, what: str) -> bool:
        return any(path.name.startswith(f".tmp-{what}") for path in self.remains() - self.before)

    def end(self) -> int:
        self.process.join(PATIENCE_SECONDS)
        assert self.process.exitcode is not None, self.said()
        return self.process.exitcode

    def kill(self) -> str:
        """Gives what it was doing; nothing when it had ended."""
        assert self.process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        if self.end() != -signal.SIGKILL:
            return ""
        if "read the model and decomposed" not in self.said():
            return "reading" if "loading" in self.said() else "starting"
        if self.writes("samples_"):
            return "model"
        return "checkpoint" if self.writes("step-") else "step"

    def resumed_at(self) -> int | None:
        """The step after which it went on; nothing when it did not get that far."""
        found = re.search(r"resumed after step (\d+)", self.said())
        return int(found[1]) if found else 0 if "| step 1/" in self.said() else None


def aim(attempt: Attempt, target: str, rng: random.Random) -> None:
    """Wait for the moment to kill."""
    if target == "reading":
        attempt.wait_until(lambda: "loading" in attempt.said())
        time.sleep(rng.uniform(0, 0.05))
    elif target == "step":
        attempt.wait_until(lambda: attempt.said().count("| step ") > rng.randrange(1, 4))
        time.sleep(rng.uniform(0, 0.05))
    else:
        attempt.wait_until(lambda: attempt.writes("step-" if target == "checkpoint" else "samples_"))
        if target == "checkpoint":
            time.sleep(rng.uniform(0, 0.003))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("base"), **SIZES)


def digest(output: Path) -> str:
    (folder,) = output.glob("hf_format/samples_*")
    return sha256_of_file(folder / "model.safetensors")


def test_a_training_killed_at_ten_moments_ends_with_the_bits_of_an_undisturbed_one(base, tmp_path):
    whole = Attempt(base, tmp_path / "whole")
    assert whole.end() == 0, whole.said()
    rng = random.Random(7)
    output = tmp_path / "killed"
    plan = list(PLAN)
    hits: Counter[str] = Counter()
    resumed = []

    for _ in range(MAX_ATTEMPTS):
        attempt = Attempt(base, output)
        if plan:
            aim(attempt, plan[0], rng)
            hit = attempt.kill()
        else:
            hit = ""
            assert attempt.end() == 0, attempt.said()
        resumed.append(attempt.resumed_at())
        if not hit:
            break
        assert not list(output.glob("hf_format/samples_*")), "a model that is not complete has its final name"
        hits[hit] += 1
        if hit == plan[0]:
            plan.pop(0)

    summary = f"{len(resumed)} attempts, killed in {dict(hits)}, resumed at {resumed}"
    print(summary)
    assert not plan, summary
    assert hits.total() >= KILLS, summary
    assert {"reading", "step", "checkpoint", "model"} <= {*hits}, summary
    went_on = [step for step in resumed if step is not None]
    assert max(went_on) > 0, summary
    assert went_on == sorted(went_on), summary
    assert digest(output) == digest(tmp_path / "whole"), summary
    assert [line["step"] for line in read_jsonl(output / "metrics.jsonl")] == [*range(1, STEPS + 1)]
    assert not (output / "checkpoints").exists()


def test_a_terminated_training_leaves_a_checkpoint_and_says_so_by_its_exit_code(base, tmp_path):
    attempt = Attempt(base, tmp_path / "run")
    attempt.wait_until(lambda: "| step 2/" in attempt.said())
    assert attempt.process.pid is not None
    asked = time.monotonic()
    os.kill(attempt.process.pid, signal.SIGTERM)

    assert attempt.end() == 143, attempt.said()

    assert time.monotonic() - asked < 20
    (folder,) = (tmp_path / "run" / "checkpoints").iterdir()
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    assert 2 <= manifest["step"] < STEPS
    assert f"terminated after step {manifest['step']}" in attempt.said()
    assert not (tmp_path / "run" / "hf_format").exists()
