"""How long a training takes on this machine, about."""

import time
from pathlib import Path

from components.models.shapes import Shapes
from components.run.plan import TrainingPlan
from components.shared.storage import read_json

# Arithmetic for a token and an entry of the layers' matrices: forward and backward pass, through both factors of each
# matrix; on a GPU the forward pass twice. EFFICIENCY is the share of a plain matrix product's rate that it reaches, on
# two processor cores (SmolLM2) and on an H100 (Granite's 8B shape, benchmarks/results/training_8b.json).
OPERATIONS = {"cpu": 12.0, "cuda": 16.0}
EFFICIENCY = {"cpu": 0.7, "cuda": 0.9}
MEASURED_SIZE, MEASURED_SECONDS = 1024, 0.3


def training_seconds(plan: TrainingPlan, model: Path) -> float:
    """About how long the training takes on this machine, whose speed is measured; `model` holds config.json."""
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
