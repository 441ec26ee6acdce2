"""`--dry-run`: what a run, or a sweep, would train, how long about, and with what memory. Nothing is kept.

Ingestion, formatting and planning are the steps' own; of the model only the small files are read, or fetched.
"""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.format_chat.core import format_chat
from components.ingest_sdg.core import ingest_sdg
from components.models.folder import check_model_files, likely_weights, small_files
from components.models.shapes import Shapes
from components.plan_training.core import Request, describe, make_plan
from components.plan_training.sweep import describe as describe_sweep
from components.plan_training.sweep import make_plans
from components.run.evaluation_options import EvaluationOptions
from components.run.plan import TrainingPlan
from components.run.training_options import TrainingOptions
from components.shared import progress
from components.shared.options import parameters_of
from components.shared.storage import read_json
from components.shared.workspace import SNAPSHOT_MANIFEST
from components.snapshot_model import hub, local_source, s3
from components.snapshot_model.core import S3_SCHEME, find_snapshot, local_folder, unreachable
from components.snapshot_model.fetching import fetch_files
from components.snapshot_model.model_source import Source, Unreachable

# Arithmetic for a token and an entry of the layers' matrices: forward and backward pass, through both factors of each
# matrix; on a GPU the forward pass twice. EFFICIENCY is the share of a plain matrix product's rate that it reaches, on
# two processor cores (SmolLM2) and on an H100 (Granite's 8B shape, benchmarks/results/training_8b.json).
OPERATIONS = {"cpu": 12.0, "cuda": 16.0}
EFFICIENCY = {"cpu": 0.7, "cuda": 0.9}
MEASURED_SIZE, MEASURED_SECONDS = 1024, 0.3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run would do."""

    plan: TrainingPlan
    training_seconds: float
    """About."""

    def lines(self) -> list[str]:
        if self.plan.trained:
            return describe(self.plan)
        device = "GPU" if self.plan.gpu_memory_gib else "CPU"
        duration = progress.duration(self.training_seconds)
        return [*describe(self.plan), f"training would take about {duration} on this machine's {device}"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepForecast:
    """What a sweep would do."""

    plans: dict[str, TrainingPlan]
    """By the settings' names."""
    training_seconds: float
    """Of all that are not trained yet, about."""

    def lines(self) -> list[str]:
        device = "GPU" if next(iter(self.plans.values())).gpu_memory_gib else "CPU"
        duration = progress.duration(self.training_seconds)
        return [*describe_sweep(self.plans), f"training would take about {duration} on this machine's {device}"]


def forecast(parameters: Mapping[str, Any], workspace: Path) -> Forecast:
    """Plan a run in a temporary folder. Raises Problems as the steps up to plan_training."""
    with _prepared(parameters, workspace) as (base, manifest, dataset, request):
        plan, _ = make_plan(base, manifest, dataset, workspace, request)
        return Forecast(plan=plan, training_seconds=_training_seconds(plan, base))


def forecast_sweep(parameters: Mapping[str, Any], workspace: Path) -> SweepForecast:
    """The same for a sweep. Raises Problems as the steps up to plan_sweep."""
    with _prepared(parameters, workspace) as (base, manifest, dataset, request):
        plans = make_plans(base, manifest, dataset, workspace, parameters["settings"], request)
        seconds = sum(_training_seconds(plan, base) for plan in plans.values() if not plan.trained)
        return SweepForecast(plans=plans, training_seconds=seconds)


@contextlib.contextmanager
def _prepared(parameters: Mapping[str, Any], workspace: Path) -> Iterator[tuple[Path, dict[str, Any], Path, Request]]:
    """What a plan is made of, in a temporary folder: base model, its manifest, dataset, request."""
    progress.name_step("dry_run")
    with tempfile.TemporaryDirectory(prefix="osft-dry-run-") as name:
        folder = Path(name)
        ingest_sdg(
            data=parameters["data"],
            questions=parameters["questions"],
            retention_questions=parameters["retention_questions"],
            options=parameters["data_options"],
            output=folder / "records",
            review=folder / "review.html",
        )
        format_chat(records=folder / "records", system_prompt=parameters["system_prompt"], output=folder / "dataset")
        base, manifest = _find_model(parameters["model"], parameters["revision"], workspace, folder / "model")
        request = Request(
            options={option: parameters[option] for option in parameters_of(TrainingOptions)},
            further_options=parameters["training_options"],
            evaluation={option: parameters[option] for option in parameters_of(EvaluationOptions)},
            further_evaluation=parameters["evaluation_options"],
            gpus=1,
            gpu_memory_gib=0.0,
            gpu_product="",
            publish_as=parameters["publish_as"],
            registry="",
            start_from=parameters["start_from"],
            snapshot_seconds=0.0,
        )
        yield base, manifest, folder / "dataset", request


def _find_model(model: str, revision: str, workspace: Path, copy: Path) -> tuple[Path, dict[str, Any]]:
    """A folder with the model's small files, and what its snapshot.json says, or would say."""
    if model.startswith(S3_SCHEME):
        return copy, _read_small_files(s3.open_s3(model), copy)
    if folder := local_folder(model):
        return copy, _read_small_files(local_source.open_folder(folder), copy)
    if there := find_snapshot(workspace, model, revision):
        return there, read_json(there / SNAPSHOT_MANIFEST)
    try:
        return copy, _read_small_files(hub.open_model(model, revision), copy)
    except Unreachable as error:
        raise unreachable(model, revision, str(error)) from None


def _read_small_files(source: Source, folder: Path) -> dict[str, Any]:
    """Copy what a model is besides its weights; gives what its snapshot.json would say."""
    folder.mkdir()
    fetch_files(folder, {name: source.files[name] for name in small_files(source.files)}, source)
    check_model_files(source.files, lambda name: (folder / name).read_bytes(), source.where)
    size = sum(source.files[name].size for name in {*small_files(source.files), *likely_weights(source.files)})
    return {"source": source.name, "commit": source.commit, "revision": source.revision, "bytes": size}


def _training_seconds(plan: TrainingPlan, model: Path) -> float:
    shapes = Shapes.of(read_json(model / "config.json"))
    entries = shapes.layers * sum(rows * columns for rows, columns in shapes.matrices.values())
    device = "cuda" if plan.gpu_memory_gib else "cpu"
    tokens = plan.tokens_per_epoch * plan.options["num_epochs"]
    return tokens * entries * OPERATIONS[device] / (_operations_per_second(device) * EFFICIENCY[device])


def _operations_per_second(device: str) -> float:
    """The rate of a matrix product in what the training computes in there."""
    import torch

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    matrix = torch.randn(MEASURED_SIZE, MEASURED_SIZE, dtype=dtype, device=device)
    (matrix @ matrix).sum().item()
    started, products = time.monotonic(), 0
    while time.monotonic() - started < MEASURED_SECONDS:
        for _ in range(10):
            matrix @ matrix
        (matrix @ matrix).sum().item()  # waits for a GPU
        products += 11
    return products * 2 * MEASURED_SIZE**3 / (time.monotonic() - started)
