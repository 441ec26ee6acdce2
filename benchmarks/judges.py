"""How does a model judge on this machine, read by the likelihood of its verdict? On two sets of labelled answers.

`trial` is the set that every grader is tried on, `labelled` that of benchmarks/verdicts.py; nothing was tuned on them.
With --shape a model of random weights in that shape is timed as well, under the same cap of memory.

python -m benchmarks.judges MODEL_FOLDER [--shape granite-3.2-8b]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import common
from benchmarks.verdicts import labelled
from components.evaluate.answering import load
from components.evaluate.kept import state_of
from components.grading.cases import Case
from components.grading.local_judge import LocalJudge
from components.grading.trial import agreement, labelled_answers

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
            folder = common.write_model(Path(work) / "model", arguments.model, arguments.shape)
            result["shape"] = {"shape": arguments.shape} | judged(folder)["trial"]
            del result["shape"]["agreement"]  # of random weights
    common.write_result("judges", result, arguments=" " + " ".join([arguments.model.name, *sys.argv[2:]]))


def judged(folder: Path) -> dict[str, Any]:
    """Agreement and speed of a model's folder on both sets."""
    model, tokenizer = load(folder)
    judge = LocalJudge(model, tokenizer, folder.name, state_of(folder))
    found = {}
    for name, rows in (("trial", labelled_answers()), ("labelled", labelled())):
        cases = [Case(row["question"], row["reference"], row["answer"]) for row in rows]
        judge.verdicts(cases[:32])  # the first call prepares kernels
        started = time.perf_counter()
        verdicts = judge.verdicts(cases)
        seconds = time.perf_counter() - started
        found[name] = {
            "agreement": vars(agreement(rows, [verdicts[case].right for case in cases])),
            "answers_per_second": len(set(cases)) / seconds,
        }
    found["peak_gib"] = torch.cuda.max_memory_allocated() / common.GIB if torch.cuda.is_available() else None
    return found


if __name__ == "__main__":
    main()
