"""Train, and publish the adapted model with its report; a model that is there already is not trained again."""

import dataclasses
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components import progress
from components.storage import publish_folder, read_json, write_json
from components.train_osft.run_key import TRAINER_VERSION
from components.workspace import TRAINING_REPORT, adapted_folder, run_folder

METRICS = "metrics.jsonl"
VERSIONS_OF = ("torch", "transformers", "training-hub")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """`training_report.json`, written last into the adapted model's folder."""

    run_key: str
    path: str
    """The adapted model."""
    reused: bool
    """Nothing was trained: the result was there."""
    device: str
    samples: int
    steps: int
    loss_first: float
    """Loss of the first optimizer step, in nats per token."""
    loss_last: float
    """Loss of the last optimizer step."""
    factored_matrices: int
    trainable_parameters: int
    decomposition_seconds: float
    training_seconds: float
    seconds: float
    """All of the step: loading, decomposing, training and saving."""
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
    started = time.monotonic()
    planned = read_json(plan)
    run_key = planned["run_key"]
    final = adapted_folder(workspace, run_key)
    if (final / TRAINING_REPORT).exists():
        progress.say(f"already trained, nothing is trained again: {final}")
        return TrainingReport(**{**read_json(final / TRAINING_REPORT), "reused": True})

    import training_hub

    from components.train_osft import backend

    output = run_folder(workspace, run_key)
    result: backend.TrainingResult = training_hub.osft(
        model_path=str(snapshot),
        data_path=str(dataset / "train.jsonl"),
        ckpt_output_dir=str(output),
        backend=backend.NAME,
        **planned["options"],
    )
    report = TrainingReport(
        run_key=run_key,
        path=str(final),
        reused=False,
        device=result.device,
        samples=result.samples,
        steps=len(result.steps),
        loss_first=result.steps[0].loss,
        loss_last=result.steps[-1].loss,
        factored_matrices=result.factored_matrices,
        trainable_parameters=result.trainable_parameters,
        decomposition_seconds=result.decomposition_seconds,
        training_seconds=result.training_seconds,
        seconds=time.monotonic() - started,
        trainer=TRAINER_VERSION,
        versions={name: version(name) for name in VERSIONS_OF},
        plan=planned,
    )
    with publish_folder(final) as folder:
        for path in result.model_path.iterdir():
            path.rename(folder / path.name)
        shutil.copyfile(output / METRICS, folder / METRICS)
        write_json(folder / TRAINING_REPORT, dataclasses.asdict(report))
    shutil.rmtree(result.model_path.parent)
    progress.say(f"loss {report.loss_first:.3f} → {report.loss_last:.3f}; adapted model in {final}")
    return report
