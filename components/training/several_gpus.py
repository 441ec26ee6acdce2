"""Training on more than one GPU, by training_hub's own backend, mini-trainer (torchrun, FSDP2).

It trains in float32 from beginning to end, writes no checkpoint that a retry could resume from, and silently drops
samples of fewer than 20 tokens and of max_seq_len tokens or more; `plan_training` makes an error of that.
"""

import time
from pathlib import Path
from typing import Any

import torch
import training_hub

from components.models.stops import save_stop_tokens
from components.run.run_key import STOCK
from components.run.training_options import TrainingOptions
from components.shared import progress
from components.shared.storage import iter_jsonl, read_jsonl
from components.shared.workspace import METRICS
from components.training.backend import TrainingResult, metrics_line
from components.training.loop import StepMetrics

OURS_ALONE = ("train_dtype", "train_unfactored", "checkpoint_minutes", "control_tokens")


def train(model_path: Path, data_path: Path, output: Path, options: TrainingOptions, gpus: int) -> TrainingResult:
    """Train on all GPUs of this machine; metrics.jsonl in the output folder has this project's form afterwards."""
    started = time.monotonic()
    metrics = output / "training_metrics_0.jsonl"
    metrics.unlink(missing_ok=True)  # mini-trainer would add to a killed attempt's
    shared = {name: value for name, value in options.arguments().items() if name not in OURS_ALONE}
    shared["target_patterns"] = list(options.target_patterns or ()) or None
    training_hub.osft(
        model_path=str(model_path),
        data_path=str(data_path),
        ckpt_output_dir=str(output),
        backend=STOCK,
        nproc_per_node=gpus,
        save_final_checkpoint=True,
        use_liger=False,
        **shared,
    )
    steps = stock_metrics(read_jsonl(metrics))
    (output / METRICS).write_text("".join(map(metrics_line, steps)), encoding="utf-8")
    final = max((output / "hf_format").iterdir(), key=lambda folder: int(folder.name.rpartition("_")[2].split(".")[0]))
    save_stop_tokens(final)
    seconds = sum(step.seconds for step in steps)
    progress.log(f"mini-trainer trained {len(steps)} steps on {gpus} GPUs")
    return TrainingResult(
        model_path=final,
        steps=steps,
        samples=sum(1 for _ in iter_jsonl(data_path)),
        loss_tokens_per_epoch=sum(step.loss_tokens for step in steps) // options.num_epochs,
        train_dtype="float32",
        device=f"{gpus} x {torch.cuda.get_device_name()}",
        training_seconds=seconds,
        saving_seconds=time.monotonic() - started - seconds,
        peak_memory_gib=max(step.peak_memory_gib for step in steps),
    )


def stock_metrics(rows: list[dict[str, Any]]) -> list[StepMetrics]:
    """Lines of mini-trainer's metrics as this project's."""
    steps = [row for row in rows if "time_per_batch" in row]
    return [
        StepMetrics(
            step=row["step"],
            steps=len(steps),
            epoch=row["epoch"] + 1,
            loss=row["loss"],
            learning_rate=row["lr"],
            gradient_norm=row["grad_norm"],
            tokens=int(row["num_total_tokens"]),
            loss_tokens=int(row["batch_num_loss_counted_tokens"]),
            seconds=row["time_per_batch"],
            peak_memory_gib=row["peak_memory_usage_GB"] * 1e9 / 2**30,
        )
        for row in steps
    ]
