"""How does a model judge on this machine, read by the likelihood of its verdict? On two sets of labelled answers.

`trial` is the set that every grader is tried on, `labelled` that of benchmarks/verdicts.py. The rubric's wording was
chosen on the second among six, by this model; nothing but the threshold comes from the first, half by half.
With --shape a model of random weights in that shape is timed as well, under the same cap of memory.

python -m benchmarks.judges MODEL_FOLDER [--shape granite-3.2-8b]
"""

import argparse
import csv
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import common
from components.evaluate.answering import load
from components.evaluate.kept import state_of
from components.grading.cases import Case
from components.grading.local_judge import LocalJudge
from components.grading.trial import agreement, calibrate
from components.shared.storage import read_json

LABELLED = Path(__file__).parent / "labelled_answers.csv"
MEMORY_GIB = 44.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--shape", default="")
    arguments = parser.parse_args()
    if torch.cuda.is_available():
        common.cap_memory(MEMORY_GIB)
    result: dict[str, Any] = {"model": arguments.model.name, "memory_cap_gib": MEMORY_GIB}
    result |= judged(arguments.model)
    if arguments.shape:
        with tempfile.TemporaryDirectory() as work:
            folder = common.write_model(
                Path(work) / "model",
                arguments.model,
                arguments.shape,
                vocabulary=read_json(arguments.model / "config.json")["vocab_size"],
            )
            timed = judged(folder)  # of random weights: what it says is nothing
            result["shape"] = {"shape": arguments.shape} | {
                name: timed[name] for name in ("trial_seconds", "answers_per_second", "peak_gib")
            }
    common.write_result("judges", result, arguments=" " + " ".join([arguments.model.name, *sys.argv[2:]]))


def judged(folder: Path) -> dict[str, Any]:
    """Agreement and speed of a model's folder on both sets."""
    model, tokenizer = load(folder)
    judge = LocalJudge(model, tokenizer, folder.name, state_of(folder))
    found: dict[str, Any] = {}
    started = time.perf_counter()
    found["trial"] = {"agreement": vars(calibrate(judge)), "threshold": judge.threshold}
    found["trial_seconds"] = time.perf_counter() - started  # with what the first calls prepare
    with LABELLED.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    cases = [Case(row["question"], row["reference"], row["answer"]) for row in rows]
    started = time.perf_counter()
    verdicts = judge.verdicts(cases)
    found["answers_per_second"] = len(set(cases)) / (time.perf_counter() - started)
    found["labelled"] = {"agreement": vars(agreement(rows, [verdicts[case].right for case in cases]))}
    uncalibrated = [None if verdicts[case].right is None else leaning > 0 for case, leaning in _leanings(judge, cases)]
    found["labelled_without_threshold"] = {"agreement": vars(agreement(rows, uncalibrated))}
    found["peak_gib"] = torch.cuda.max_memory_allocated() / common.GIB if torch.cuda.is_available() else None
    return found


def _leanings(judge: LocalJudge, cases: list[Case]) -> list[tuple[Case, float]]:
    leaning = dict(judge.leanings(cases))
    return [(case, leaning[case]) for case in cases]


if __name__ == "__main__":
    main()
