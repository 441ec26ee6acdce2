"""Train, and publish the adapted model with its report; a model that is there already is not trained again."""

import dataclasses
import itertools
import os
import shutil
import signal
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.run.run_key import trainer
from components.shared import progress, records
from components.shared.gpu import check_gpu
from components.shared.lease import hold_lease
from components.shared.storage import from_dict, publish_whole, read_json, write_json
from components.shared.workspace import METRICS, TRAINING_REPORT, adapted_folder, run_folder
from components.training.memory import MemoryPlan

if TYPE_CHECKING:
    from components.training.backend import TrainingResult

LEASE = ".lease"  # in the run's folder
LEASE_TIMEOUT_SECONDS = 120.0  # without a heartbeat of the pod that trains the same, until it counts as dead
VERSIONS_OF = ("torch", "transformers", "training-hub")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """`training_report.json`, written last into the adapted model's folder."""

    run_key: str
    path: str
    """The adapted model."""
    device: str
    samples: int
    steps: int
    loss_first: float
    """Loss of the first optimizer step, in nats per token."""
    loss_last: float
    """Loss of the last optimizer step."""
    factored_matrices: int
    trainable_parameters: int
    loading_seconds: float
    """Reading and decomposing the base model."""
    training_seconds: float
    seconds: float
    """All of the step: loading, decomposing, training and saving."""
    tokens_per_second: float
    """Median over the steps."""
    peak_memory_gib: float
    """Most GPU memory allocated; 0 on the CPU."""
    resumed_at: int
    """The step after which a killed training was gone on with; 0 for one in one piece."""
    train_dtype: str
    trainer: str
    versions: dict[str, str]
    plan: dict[str, Any]
    """The whole plan: lineage."""


def train_osft(*, dataset: Path, snapshot: Path, plan: Path, workspace: Path) -> TrainingReport:
    """Train what `plan_training` planned.

    Args:
        dataset: what format_chat made.
        snapshot: what snapshot_model made.
        plan: what plan_training made.
        workspace: the run's workspace.

    Raises:
        Problems: when data or options do not fit the backend.
    """
    planned = read_json(plan)
    run_key = planned["run_key"]
    final, output = adapted_folder(workspace, run_key), run_folder(workspace, run_key)
    done = final / TRAINING_REPORT
    with hold_lease(
        output / LEASE,
        busy_message=f"run {run_key} is being trained by another run",
        is_done=done.exists,
        heartbeat=itertools.count().__next__,
        timeout_seconds=LEASE_TIMEOUT_SECONDS,
        on_lost=_end,
    ):
        if not done.exists():
            return _noted(_make(dataset, snapshot, planned, final, output))
    progress.log(f"already trained, nothing is trained again: {final}")
    return _noted(from_dict(TrainingReport, read_json(done)))


def _end() -> None:
    """As a pod is ended that is not wanted any more: its retry waits for who has taken over."""
    progress.log("this training was taken for dead, and another run goes on with it: ending")
    os.kill(os.getpid(), signal.SIGTERM)


def _make(dataset: Path, snapshot: Path, planned: dict[str, Any], final: Path, output: Path) -> TrainingReport:
    started = time.monotonic()
    check_gpu(planned, needed_gib=from_dict(MemoryPlan, planned["memory"]).needed_gib)
    result = _train(snapshot, dataset / "train.jsonl", output, planned)
    report = TrainingReport(
        run_key=planned["run_key"],
        path=str(final),
        device=result.device,
        samples=result.samples,
        steps=len(result.steps),
        loss_first=result.steps[0].loss,
        loss_last=result.steps[-1].loss,
        factored_matrices=result.factored_matrices,
        trainable_parameters=result.trainable_parameters,
        loading_seconds=result.loading_seconds,
        training_seconds=result.training_seconds,
        seconds=time.monotonic() - started,
        tokens_per_second=statistics.median(step.tokens_per_second for step in result.steps),
        peak_memory_gib=result.peak_memory_gib,
        resumed_at=result.resumed_at,
        train_dtype=result.train_dtype,
        trainer=trainer(planned["gpus"]),
        versions={name: version(name) for name in VERSIONS_OF},
        plan=planned,
    )
    shutil.copyfile(output / METRICS, result.model_path / METRICS)
    write_json(result.model_path / TRAINING_REPORT, dataclasses.asdict(report))
    publish_whole(result.model_path, final)
    progress.log(f"loss {report.loss_first:.3f} → {report.loss_last:.3f}; adapted model in {final}")
    return report


def _noted(report: TrainingReport) -> TrainingReport:
    records.note(steps=report.steps, loss_first=report.loss_first, loss_last=report.loss_last)
    return report


def _train(snapshot: Path, data: Path, output: Path, planned: dict[str, Any]) -> "TrainingResult":
    import training_hub

    from components.run.training_options import TrainingOptions
    from components.training import backend, several_gpus

    if planned["gpus"] > 1:
        options = TrainingOptions.from_mapping(planned["options"])
        return several_gpus.train(snapshot, data, output, options, planned["gpus"])
    result: TrainingResult = training_hub.osft(
        model_path=str(snapshot),
        data_path=str(data),
        ckpt_output_dir=str(output),
        backend=backend.NAME,
        **planned["options"],
    )
    return result
