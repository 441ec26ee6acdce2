"""What a run will do: the plan that plan_training writes, and every later step reads.

{"run_key": "6fdfa8e78ea3eea2", "trained": false, "steps": 90, "memory": {"frozen_gib": 14.9, ...}, ...}
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.run.evaluation_options import EvaluationOptions
from components.run.training_options import TrainingOptions
from components.shared.storage import from_dict, read_json, write_json

BASE, PUBLISHED = STARTS = ("base", "published")  # what a training starts from
UNUSABLE = 0.05  # of what is allocated, measured as what torch reserves beyond it


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Where the bytes go; all in GiB."""

    frozen_gib: float
    """Frozen factors, or weights."""
    trained_gib: float
    """Trained factors, adapters, embeddings, norms, with AdamW's moments."""
    gradients_gib: float
    activations_gib: float
    """What passes, at the moment when everything together is most."""

    @property
    def total_gib(self) -> float:
        """The most that is allocated at one time."""
        return self.frozen_gib + self.trained_gib + self.gradients_gib + self.activations_gib

    @property
    def needed_gib(self) -> float:
        """With what the allocator cannot use in between."""
        return self.total_gib * (1 + UNUSABLE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
    """A published model that a later run started from."""

    run_key: str
    model: str
    """Its folder below adapted/."""
    data_digest: str
    data_source: str
    samples: int
    published_at: str
    """ISO 8601, UTC."""

    @property
    def words(self) -> str:
        """For a reader."""
        data = f"{self.samples} samples of {self.data_source}, digest {self.data_digest}"
        return f"{self.model}: trained on {data}; published {self.published_at}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What a run will do."""

    run_key: str
    evaluation_key: str
    """Hash of the questions, the options and the acceptance thresholds: a model is evaluated again when it changes."""
    trained: bool
    """The adapted model of this key is complete."""
    evaluated: bool
    """And so is its evaluation."""
    published: bool
    """And the model is published, or not good."""
    options: dict[str, Any]
    """Of the training."""
    evaluation: dict[str, Any]
    """Options of the evaluation."""
    samples: int
    tokens_per_epoch: int
    longest_sample: int
    steps: int
    memory: MemoryPlan
    gpus: int
    gpu_memory_gib: float
    """Of each GPU; 0 on the CPU."""
    gpu_product: str
    """The GPU that the training is placed on, as its node's label names it; empty for any."""
    publish: dict[str, str]
    """Name and registry under which a good model is published."""
    data: dict[str, Any]
    """The report of format_chat."""
    model: dict[str, Any]
    """The manifest of the snapshot, without its files."""
    snapshot_seconds: float
    seconds: float
    checkpoint_seconds: float = 0.0
    """About the time between two checkpoints: what a killed training loses at most; 0 without them."""
    lineage: list[Generation] = dataclasses.field(default_factory=list)
    """The models before this one, the oldest first; the training starts from the last, or from the base model."""
    remarks: tuple[str, ...] = ()
    """What is worth knowing before it runs: of the words of the data, the model, the options."""
    start_note: str = ""
    """Why the training starts where it does, where that was asked to be the published model."""
    adapted: str = ""
    """The folder of the run's model below adapted/, where it is a rewound one; empty for the run key."""

    @classmethod
    def read(cls, file: Path) -> "TrainingPlan":
        """The plan that plan_training has written."""
        return from_dict(cls, read_json(file))

    @property
    def model_name(self) -> str:
        """The folder of the run's model below adapted/."""
        return self.adapted or self.run_key

    @property
    def starts_from(self) -> str:
        """The folder below adapted/ of the model that the training starts from; empty for the base model."""
        return self.lineage[-1].model if self.lineage else ""

    @property
    def training_options(self) -> TrainingOptions:
        return TrainingOptions.from_mapping(self.options)

    @property
    def evaluation_options(self) -> EvaluationOptions:
        return EvaluationOptions.from_mapping(self.evaluation)

    @property
    def model_bytes(self) -> int:
        """Size of the base model's files."""
        return int(self.model["bytes"])

    @property
    def model_source(self) -> str:
        """org/name, a folder or an address."""
        return str(self.model["source"])

    @property
    def model_commit(self) -> str:
        return str(self.model["commit"])

    @property
    def system_prompt(self) -> str:
        return str(self.data["system_prompt"])

    @property
    def data_digest(self) -> str:
        return str(self.data["data_digest"])

    @property
    def data_source(self) -> str:
        """Where the rows came from, as the user named it."""
        return str(self.data["ingest"]["data"])

    @property
    def rows(self) -> dict[str, int]:
        """What became of the data's rows: how many were read, trained on, held out, and dropped by reason."""
        ingest = self.data["ingest"]
        dropped = {f"dropped as {reason}": count for reason, count in ingest["dropped"].items() if count}
        return {"read": ingest["rows_read"], "trained on": ingest["kept"], "held out": ingest["held_out"], **dropped}

    @property
    def gap_questions_in_data(self) -> list[str]:
        """Gap questions that rows of the data ask, dropped or not."""
        return list(self.data["ingest"]["gap_questions_in_data"])

    @property
    def preparing_seconds(self) -> dict[str, float]:
        """What each step up to the plan took."""
        return {
            "ingest_sdg": self.data["ingest"]["seconds"],
            "format_chat": self.data["seconds"],
            "snapshot_model": self.snapshot_seconds,
            "plan_training": self.seconds,
        }

    @property
    def anything_to_do(self) -> bool:
        return not (self.trained and self.evaluated and self.published)


def write_plan(file: Path, plan: TrainingPlan) -> None:
    write_json(file, dataclasses.asdict(plan))


def write_plans(file: Path, plans: Mapping[str, TrainingPlan]) -> None:
    """Write a sweep's plans, by their settings' names."""
    write_json(file, {name: dataclasses.asdict(plan) for name, plan in plans.items()})


def read_plans(file: Path) -> dict[str, TrainingPlan]:
    """The plans of a sweep by their settings' names, in the order in which they are trained."""
    return {name: from_dict(TrainingPlan, plan) for name, plan in read_json(file).items()}
