"""Two layers of Granite-3.2-8B, the same data and options: this project's backend against training_hub's own.

    python -m benchmarks.stock TOKENIZER_FOLDER WORK_FOLDER

Stock computes in float32, its default, and the only number format it trains in. Needs TESTING=true in the environment
where flash_attn is missing: mini_trainer then takes torch's attention.
"""

import json
import statistics
import sys
from pathlib import Path

import torch
import training_hub

from benchmarks import common
from components.training import backend

OPTIONS = {
    "unfreeze_rank_ratio": 0.25, "effective_batch_size": 4, "max_tokens_per_gpu": 2048, "max_seq_len": 1024,
    "learning_rate": 5e-6, "num_epochs": 2,
}  # fmt: skip
WARM_UP = 5  # steps


def main() -> None:
    tokenizer, work = Path(sys.argv[1]), Path(sys.argv[2])
    work.mkdir(parents=True, exist_ok=True)
    model = common.write_model(work / "two-layers", tokenizer, "granite-3.2-8b", 2)
    data = common.write_data(work / "data.jsonl", tokenizer, 60, 510)
    paths = {"model_path": str(model), "data_path": str(data)}
    stock = OPTIONS | {"ckpt_output_dir": str(work / "stock"), "nproc_per_node": 1, "use_liger": False}
    training_hub.osft(**paths, **stock)
    lines = (work / "stock" / "training_metrics_0.jsonl").read_text(encoding="utf-8").splitlines()
    theirs = [row for row in map(json.loads, lines) if "tokens_per_second" in row]
    print(theirs[-1], flush=True)
    ours = training_hub.osft(**paths, ckpt_output_dir=str(work / "ours"), **OPTIONS, backend=backend.NAME)
    torch.cuda.synchronize()
    stock_speed = statistics.median(row["tokens_per_second"] for row in theirs[WARM_UP:])
    our_speed = statistics.median(step.tokens_per_second for step in ours.steps[WARM_UP:])
    common.write_result(
        "stock",
        {
            "layers": 2,
            "options": OPTIONS,
            "stock_float32": {
                "steps": len(theirs),
                "tokens_per_second": stock_speed,
                "peak_memory_gb": max(row.get("peak_memory_usage_GB", 0) for row in theirs),
                "last_row": theirs[-1],
            },
            "single_device": {
                "steps": len(ours.steps),
                "tokens_per_step": statistics.mean(step.tokens for step in ours.steps),
                "tokens_per_second": our_speed,
                "peak_memory_gib": ours.peak_memory_gib,
            },
            "ratio": our_speed / stock_speed,
        },
    )


if __name__ == "__main__":
    main()
