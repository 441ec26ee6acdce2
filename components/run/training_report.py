"""What a training did: `training_report.json`, written last into the adapted model's folder."""

import dataclasses
from pathlib import Path

from components.run.plan import TrainingPlan
from components.run.training_options import OSFT
from components.shared.problems import problem
from components.shared.storage import from_dict, read_json
from components.shared.workspace import TRAINING_REPORT


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
    """0 for methods other than OSFT."""
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
    """The step after which a killed training was resumed; 0 for one in one piece."""
    train_dtype: str
    trainer: str
    versions: dict[str, str]
    plan: TrainingPlan
    """The whole plan: lineage."""
    method: str = OSFT
    """Reports of earlier releases name none."""
    rewound: float = 1.0
    """The share of the training's change that this model holds; below 1 it was rewound after the training."""

    @classmethod
    def read(cls, model: Path) -> "TrainingReport":
        """The report of an adapted model's folder. Raises Problems when it is none of this project's."""
        try:
            return from_dict(cls, read_json(model / TRAINING_REPORT))
        except ValueError as error:
            raise problem(
                f"the model's training report cannot be read: {error}",
                where=str(model / TRAINING_REPORT),
                rule="what train_osft of this release writes beside a model",
                remedy=f"remove or rename the {TRAINING_REPORT}; the model is then evaluated without its lineage",
            ) from None
