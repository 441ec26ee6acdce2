"""Fixtures of what costs a training."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tiny_model import train_tiny_model

if TYPE_CHECKING:
    from components.training.backend import TrainingResult


@pytest.fixture(scope="session")
def tiny_result(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> "TrainingResult":
    """An undisturbed training of the tiny model: six steps with the options of `train_tiny_model`."""
    return train_tiny_model(tiny_model, tmp_path_factory.mktemp("undisturbed"))
