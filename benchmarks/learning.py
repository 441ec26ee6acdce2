"""What bfloat16 loses at a learning rate of 5e-6 and what the compact weights keep; and the same for saving.

    python -m benchmarks.learning TOKENIZER_FOLDER WORK_FOLDER

Two layers of Granite-3.2-8B, 200 steps on the same samples in the same order: in float32, with compact weights, and
with plain bfloat16 weights and moments. Then what the saved bfloat16 model has learned, rounded stochastically and to
nearest.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
import training_hub
from torch import Tensor

from benchmarks import common
from components.data.packs import packs
from components.data.samples import tokenize_rows
from components.training import backend, factors, optimizer, saving
from components.training.loss import PackLoss
from components.training.weights import Float32Weight, Update

OPTIONS = {
    "unfreeze_rank_ratio": 0.25, "effective_batch_size": 4, "max_tokens_per_gpu": 2048, "max_seq_len": 1024,
    "learning_rate": 5e-6, "num_epochs": 10,
}  # fmt: skip
SAMPLES = 80
WINDOW = 20  # steps, an epoch: the same samples in the first and in the last one


class PlainBfloat16Weight(Float32Weight):
    """What AdamW does when weights and moments are bfloat16 tensors."""

    def __init__(self, name: str, value: Tensor) -> None:
        super().__init__(name, value)
        self.value, self.first, self.second = (t.bfloat16() for t in (self.value, self.first, self.second))

    def direction(self, gradient: Tensor, update: Update) -> Tensor:
        gradient = gradient * update.gradient_scale
        self.first.lerp_(gradient, 1 - update.beta1)
        self.second.mul_(update.beta2).addcmul_(gradient, gradient, value=1 - update.beta2)
        first_correction, second_correction = update.corrections
        return (self.first * first_correction) / ((self.second * second_correction).sqrt() + update.eps)


def plain_weight(name: str, value: Tensor, dtype: torch.dtype) -> Float32Weight:
    return Float32Weight(name, value) if value.ndim == 1 else PlainBfloat16Weight(name, value)


def train(name: str, model: Path, data: Path, work: Path, dtype: str) -> tuple[list[float], Path]:
    result = training_hub.osft(
        model_path=str(model), data_path=str(data), ckpt_output_dir=str(work / name), backend=backend.NAME,
        train_dtype=dtype, **OPTIONS,
    )  # fmt: skip
    return [step.loss for step in result.steps], result.model_path


@torch.no_grad()
def loss_of(folder: Path, data: Path) -> float:
    """Mean loss of a plain model folder on the data, computed in float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    samples = list(tokenize_rows(rows, AutoTokenizer.from_pretrained(folder), 1024, str(data)))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).cuda()
    pack_loss = PackLoss(model)
    tokens = sum(sample.loss_tokens for sample in samples)
    return sum(float(pack_loss(pack, 1)) for pack in packs(samples, 2048, "cuda")) / tokens


def summary(losses: list[float], reference: list[float]) -> dict[str, Any]:
    decrease = statistics.mean(losses[:WINDOW]) - statistics.mean(losses[-WINDOW:])
    expected = statistics.mean(reference[:WINDOW]) - statistics.mean(reference[-WINDOW:])
    return {
        "decrease": decrease,
        "against_float32": decrease / expected,
        "decrease_in_20_steps_against_float32": (losses[0] - losses[20]) / (reference[0] - reference[20]),
        "losses": losses,
    }


def main() -> None:
    tokenizer, work = Path(sys.argv[1]), Path(sys.argv[2])
    work.mkdir(parents=True, exist_ok=True)
    model = common.write_model(work / "two-layers", tokenizer, "granite-3.2-8b", 2)
    data = common.write_data(work / "data.jsonl", tokenizer, SAMPLES, 510)
    float32, _ = train("float32", model, data, work, "float32")
    compact, saved = train("compact", model, data, work, "bfloat16")
    stochastic, base = loss_of(saved, data), loss_of(model, data)
    keep = saving.round_stochastically
    saving.round_stochastically = lambda values, dtype, seed: values.to(dtype)  # type: ignore[assignment]
    _, saved_nearest = train("nearest", model, data, work, "bfloat16")
    nearest = loss_of(saved_nearest, data)
    saving.round_stochastically = keep
    factors.trained_weight = optimizer.trained_weight = plain_weight  # type: ignore[assignment]
    plain, _ = train("plain", model, data, work, "bfloat16")
    common.write_result(
        "learning",
        {
            "layers": 2,
            "options": {**OPTIONS, "samples": SAMPLES},
            "window_steps": WINDOW,
            "float32": summary(float32, float32),
            "compact": summary(compact, float32),
            "plain_bfloat16": summary(plain, float32),
            "saved_in_bfloat16": {
                "loss_of_base": base,
                "loss_rounded_stochastically": stochastic,
                "loss_rounded_to_nearest": nearest,
            },
        },
    )


if __name__ == "__main__":
    main()
