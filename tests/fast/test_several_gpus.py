"""What mini-trainer wrote in a real run on a GPU is understood."""

import json
from pathlib import Path
from typing import Any

import torch
import training_hub

from components.run.training_options import TrainingOptions
from components.shared.storage import read_json, read_jsonl, write_jsonl
from components.training.several_gpus import stock_metrics, train
from tests.tiny_model import write_tiny_model

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "stock.json"


def test_metrics_of_mini_trainer_become_this_projects():
    row = read_json(RESULT)["stock_float32"]["last_row"]

    (metrics,) = stock_metrics([row, {"val_loss": 1.0}])

    assert (metrics.epoch, metrics.loss) == (row["epoch"] + 1, row["loss"])
    assert metrics.tokens == row["num_total_tokens"]
    assert abs(metrics.tokens_per_second / row["tokens_per_second"] - 1) < 1e-3
    assert metrics.peak_memory_gib < row["peak_memory_usage_GB"]


def test_of_two_attempts_only_the_one_that_came_through_is_reported(tmp_path, monkeypatch):
    row = read_json(RESULT)["stock_float32"]["last_row"]
    write_jsonl(tmp_path / "train.jsonl", [{"messages": []}] * 3)
    steps = 2

    def attempt(ckpt_output_dir: str, **options: Any) -> None:  # mini-trainer itself needs a GPU
        assert type(options["target_patterns"]) is list
        with (Path(ckpt_output_dir) / "training_metrics_0.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row | {"step": step}) + "\n" for step in range(1, steps + 1))
        write_tiny_model(Path(ckpt_output_dir) / "hf_format" / "samples_3")

    monkeypatch.setattr(training_hub, "osft", attempt)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    options = TrainingOptions(target_patterns=("q_proj",))
    train(tmp_path / "base", tmp_path / "train.jsonl", tmp_path, options, 2)
    steps = 5

    result = train(tmp_path / "base", tmp_path / "train.jsonl", tmp_path, options, 2)

    assert [step.step for step in result.steps] == [1, 2, 3, 4, 5]
    assert {step.steps for step in result.steps} == {5}
    assert result.samples == 3
    assert len(read_jsonl(tmp_path / "metrics.jsonl")) == 5
