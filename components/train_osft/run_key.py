"""The run key: a name for everything that determines a training's result. Same key, same model."""

from components.storage import sha256_of_json
from components.train_osft.options import TrainingOptions

# Goes up with every change of the backend that changes its results, so that old results are not taken for new ones.
TRAINER_VERSION = "single-device-1"


def run_key(data_digest: str, model_commit: str, options: TrainingOptions) -> str:
    """16 hex digits."""
    return sha256_of_json(
        {
            "data": data_digest,
            "model": model_commit,
            "options": options.as_json(),
            "trainer": TRAINER_VERSION,
        }
    )[:16]
