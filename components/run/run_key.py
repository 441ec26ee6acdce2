"""The run key: a name for everything that determines a training's result. Same key, same model."""

from importlib.metadata import version

from components.run.training_options import TrainingOptions
from components.shared.storage import sha256_of_json

# Goes up with every change of the backend that changes its results, so that old results are not taken for new ones.
TRAINER_VERSION = "single-device-3"
STOCK = "mini-trainer"  # training_hub's backend for several GPUs


def trainer(gpus: int) -> str:
    """What trains on so many GPUs, with its version."""
    return TRAINER_VERSION if gpus <= 1 else f"{STOCK}-{version('rhai-innovation-mini-trainer')}"


def run_key(data_digest: str, model_commit: str, options: TrainingOptions, gpus: int) -> str:
    """16 hex digits."""
    return sha256_of_json(
        {
            "data": data_digest,
            "model": model_commit,
            "options": options.determining(gpus),
            "trainer": trainer(gpus),
        }
    )[:16]
