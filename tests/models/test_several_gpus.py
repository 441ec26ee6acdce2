"""What mini-trainer wrote in a real run on a GPU is understood."""

from pathlib import Path

from components.storage import read_json
from components.train_osft.several_gpus import stock_metrics

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "stock.json"


def test_metrics_of_mini_trainer_become_this_projects() -> None:
    row = read_json(RESULT)["stock_float32"]["last_row"]

    (metrics,) = stock_metrics([row, {"val_loss": 1.0}])

    assert (metrics.epoch, metrics.loss) == (row["epoch"] + 1, row["loss"])
    assert metrics.tokens == row["num_total_tokens"]
    assert abs(metrics.tokens_per_second / row["tokens_per_second"] - 1) < 1e-3
    assert metrics.peak_memory_gib < row["peak_memory_usage_GB"]
