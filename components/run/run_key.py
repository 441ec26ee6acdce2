"""Names for everything that determines a result. Same run key, same model; same evaluation key, same evaluation."""

import dataclasses
from importlib.metadata import version

from components.run.evaluation_options import EvaluationOptions
from components.run.training_options import TrainingOptions
from components.shared.storage import sha256_of_json

# Goes up with every change of the backend that changes its results, so that old results are not taken for new ones.
TRAINER_VERSION = "single-device-4"
EVALUATOR_VERSION = 7  # goes up when the same questions would be graded or counted in another way
STOCK = "mini-trainer"  # training_hub's backend for several GPUs


def trainer(gpus: int) -> str:
    """What trains on so many GPUs, with its version."""
    return TRAINER_VERSION if gpus <= 1 else f"{STOCK}-{version('rhai-innovation-mini-trainer')}"


def run_key(data_digest: str, model_commit: str, options: TrainingOptions, gpus: int, start: str = "") -> str:
    """16 hex digits; `start` is the adapted model that the training starts from, empty for the base model."""
    determining = {"data": data_digest, "model": model_commit, "options": options.determining(gpus)}
    started = {"start": start} if start else {}
    return sha256_of_json({**determining, **started, "trainer": trainer(gpus)})[:16]


def evaluation_key(digests: list[str], system_prompt: str, options: EvaluationOptions) -> str:
    """16 hex digits; digests are those of the questions, those of earlier runs too, and of the held-out rows."""
    hashed = [EVALUATOR_VERSION, *digests, system_prompt, dataclasses.asdict(options)]
    return sha256_of_json(hashed)[:16]
