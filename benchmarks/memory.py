"""Peak GPU memory of real trainings in several shapes against what plan_training says from config.json alone.

python -m benchmarks.memory TOKENIZER_FOLDER WORK_FOLDER [SHAPE OPTIONS]

With a shape and training options (JSON), only that case, whose rows are printed and not written.
"""

import dataclasses
import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from benchmarks import common
from components.data.packs import packs
from components.data.samples import Sample
from components.run.training_options import TrainingOptions
from components.training.attention import attention_for
from components.training.loading import enable_checkpointing, load
from components.training.loss import PackLoss
from components.training.norms import fuse_norms
from components.training.optimizer import Optimizer

OPTIONS: list[dict[str, Any]] = [
    *({"unfreeze_rank_ratio": ratio} for ratio in (0.1, 0.25, 0.5)),
    {"unfreeze_rank_ratio": 0.25, "train_unfactored": False},
    {"method": "lora_sft"},
    {"method": "lora_sft", "lora_r": 64},
    {"method": "lora_sft", "lora_protect": True, "unfreeze_rank_ratio": 0.25},
    {"method": "sft"},
]
# Granite-3.2-8B is measured by training_8b.
CASES = [(shape, options) for shape in ("smollm2-135m", "granite-3.3-2b") for options in OPTIONS]

LENGTHS = (512, 1024, 4096)
SAMPLES = 4  # of one step, computed at once


def measure(model_path: Path, given: dict[str, Any]) -> list[dict[str, Any]]:
    device, dtype = torch.device("cuda"), torch.bfloat16
    base = TrainingOptions(train_dtype="bfloat16", **given)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    started = time.monotonic()
    config = AutoConfig.from_pretrained(model_path)
    model = load(model_path, base, device, dtype, attention_for(config, device, dtype, max(LENGTHS)))
    optimizer = Optimizer(model, base, dtype)
    enable_checkpointing(model, base)
    fuse_norms(model)
    pack_loss = PackLoss(model)
    gc.collect()
    torch.cuda.empty_cache()
    loading_seconds = time.monotonic() - started
    loading, lasting = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
    rows = []
    for length in LENGTHS:
        options = dataclasses.replace(base, max_seq_len=length, max_tokens_per_gpu=SAMPLES * length)
        # As a question and an answer of one to three.
        samples = [
            Sample(torch.randint(9, 4000, (length,)).tolist(), [-100] * (length // 4) + [9] * (length - length // 4))
            for _ in range(SAMPLES)
        ]
        (pack,) = packs(samples, options.max_tokens_per_gpu, device)
        model.train()
        peaks = []
        for step in (1, 2):  # the moments of the first are there in the second
            torch.cuda.reset_peak_memory_stats()
            loss = pack_loss(pack, 1)
            peaks.append(torch.cuda.max_memory_allocated())
            torch.cuda.reset_peak_memory_stats()
            loss.backward()
            peaks.append(torch.cuda.max_memory_allocated())
            torch.cuda.reset_peak_memory_stats()
            optimizer.step(step, 1e-6, float(optimizer.finish_gradients()))
            peaks.append(torch.cuda.max_memory_allocated())
        rows.append(
            {
                "options": given,
                "sequence_length": length,
                "max_tokens_per_gpu": options.max_tokens_per_gpu,
                "peak_memory_gib": max(loading, *peaks) / common.GIB,
                "peak_of_loading_gib": loading / common.GIB,
                "peak_of_forward_gib": max(peaks[0::3]) / common.GIB,
                "peak_of_backward_gib": max(peaks[1::3]) / common.GIB,
                "peak_of_optimizer_gib": max(peaks[2::3]) / common.GIB,
                "lasting_gib": lasting / common.GIB,
                "loading_seconds": loading_seconds,
            }
        )
    return rows


def main() -> None:
    tokenizer, work = Path(sys.argv[1]), Path(sys.argv[2])
    if len(sys.argv) > 3:
        shape, options = sys.argv[3], json.loads(sys.argv[4])
        if not (work / shape).exists():
            common.write_model(work / shape, tokenizer, shape)
        print(json.dumps(measure(work / shape, options)))
        return
    rows = []
    for shape, options in CASES:
        if not (work / shape).exists():
            common.write_model(work / shape, tokenizer, shape)
        # A process of its own: what a training before leaves behind would count.
        command = [sys.executable, "-m", "benchmarks.memory", str(tokenizer), str(work), shape, json.dumps(options)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603
        rows += [{"shape": shape, **row} for row in json.loads(output.splitlines()[-1])]
        print(rows[-1], flush=True)
    common.write_result("memory", {"rows": rows})


if __name__ == "__main__":
    main()
