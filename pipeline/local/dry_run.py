"""`--dry-run`: what a run, or a sweep, would train, how long about, and with what memory. Nothing is kept.

Ingestion, formatting and planning are the steps' own; of the model only the small files are read, or fetched.
"""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.format_chat.core import format_chat
from components.ingest_sdg.core import ingest_sdg
from components.models.folder import check_model_files, likely_weights, small_files
from components.plan_training.core import Request, describe, make_plan
from components.plan_training.duration import training_seconds
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
        return Forecast(plan=plan, training_seconds=training_seconds(plan, base))


def forecast_sweep(parameters: Mapping[str, Any], workspace: Path) -> SweepForecast:
    """The same for a sweep. Raises Problems as the steps up to plan_sweep."""
    with _prepared(parameters, workspace) as (base, manifest, dataset, request):
        plans = make_plans(base, manifest, dataset, workspace, parameters["settings"], request)
        seconds = sum(training_seconds(plan, base) for plan in plans.values() if not plan.trained)
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
