"""Fixtures of what costs a training."""

from typing import TYPE_CHECKING

import pytest

from tests.tiny_model import train_tiny_model

if TYPE_CHECKING:
    pass


@pytest.fixture(scope="session")
def tiny_result(tiny_model, tmp_path_factory):
    """An undisturbed training of the tiny model: six steps with the options of `train_tiny_model`."""
    return train_tiny_model(tiny_model, tmp_path_factory.mktemp("undisturbed"))
