"""Fixtures of all tiers; what needs torch is imported where it is used."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A model folder of a few thousand parameters."""
    from tests.tiny_model import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M-Instruct, converted once and kept for `make demo`."""
    folder = ROOT / "build" / "smollm2"
    if not folder.exists():  # appears complete or not at all
        subprocess.run([sys.executable, ROOT / "examples" / "smollm2.py", folder], check=True)
    return folder
