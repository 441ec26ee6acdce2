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
from typing import TYPE_CHECKING

from components.models.reference import find_model, refer_to
from components.models.stops import save_stop_tokens
from components.run.lineage import start_folder
from components.run.plan import TrainingPlan
from components.run.run_key import trainer
from components.run.training_report import TrainingReport
from components.shared import progress, records
from components.shared.gpu import check_gpu
from components.shared.lease import hold_lease
from components.shared.storage import publish_whole, write_json
from components.shared.workspace import METRICS, TRAINING_REPORT, adapted_folder, run_folder

if TYPE_CHECKING:
    from components.training.backend import TrainingResult

LEASE = ".lease"  # in the run's folder
LEASE_TIMEOUT_SECONDS = 120.0  # without a heartbeat of the pod that trains the same, until it counts as dead
VERSIONS_OF = ("torch", "transformers", "training-hub")


def train_osft(*, dataset: Path, snapshot: Path, plan: Path, workspace: Path, note: Path) -> TrainingReport:
    """Train what `plan_training` planned.

    Args:
        dataset: what format_chat made.
        snapshot: what snapshot_model wrote about the base model.
        plan: what plan_training made.
        workspace: the run's workspace.
        note: file to make: which model, and where (components/models/reference.py).

    Raises:
        Problems: when data or options do not fit the backend.
    """
    planned = TrainingPlan.read(plan)
    base, run_key = find_model(snapshot, workspace), planned.run_key
    final, output = adapted_folder(workspace, planned.model_name), run_folder(workspace, run_key)
    done = final / TRAINING_REPORT
    with hold_lease(
        output / LEASE,
        busy_message=f"run {run_key} is being trained by another run",
        is_done=done.exists,
        heartbeat=itertools.count().__next__,
        timeout_seconds=LEASE_TIMEOUT_SECONDS,
        on_lost=_end,
    ):
        if done.exists():
            progress.log(f"already trained, nothing to do: {final}")
            report = TrainingReport.read(final)
        else:
            report = _make(dataset, start_folder(workspace, planned, base), planned, final, output)
    refer_to(final, TRAINING_REPORT, workspace, commit=planned.model_commit, run_key=run_key).write(note)
    records.note(steps=report.steps, loss_first=report.loss_first, loss_last=report.loss_last)
    return report


def _end() -> None:
    """End as a deleted pod does: its retry then waits for the run that has taken over."""
    progress.log("another run considered this training dead and has taken it over: ending")
    os.kill(os.getpid(), signal.SIGTERM)


def _make(dataset: Path, start: Path, planned: TrainingPlan, final: Path, output: Path) -> TrainingReport:
    started = time.monotonic()
    check_gpu(planned.gpus, planned.gpu_memory_gib, planned.gpu_product, planned.memory.needed_gib)
    result = _train(start, dataset / "train.jsonl", output, planned)
    report = TrainingReport(
        run_key=planned.run_key,
        path=str(final),
        method=planned.training_options.method,
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
        trainer=trainer(planned.gpus),
        versions={name: version(name) for name in VERSIONS_OF},
        plan=planned,
    )
    shutil.copyfile(output / METRICS, result.model_path / METRICS)
    write_json(result.model_path / TRAINING_REPORT, dataclasses.asdict(report))
    publish_whole(result.model_path, final)
    progress.log(f"loss {report.loss_first:.3f} → {report.loss_last:.3f}; adapted model in {final}")
    return report


def _train(start: Path, data: Path, output: Path, planned: TrainingPlan) -> "TrainingResult":
    import training_hub

    from components.training import backend, several_gpus

    options = planned.training_options
    if planned.gpus > 1:
        trained = several_gpus.train(start, data, output, options, planned.gpus)
        save_stop_tokens(trained.model_path)
        return trained
    method = getattr(training_hub, options.method)
    result: TrainingResult = method(
        model_path=str(start),
        data_path=str(data),
        ckpt_output_dir=str(output),
        backend=backend.NAME,
        **options.arguments(),
    )
    return result
