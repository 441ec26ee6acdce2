"""Many trainings with their evaluations on one machine, several at a time: what methods and sequence share.

A job is named by its JSON values. Its result is a file, written whole; a repeated call does what is missing.
"""

import contextlib
import gc
import json
import multiprocessing
import shutil
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import common
from components.data.samples import tokenize_rows
from components.evaluate.answering import answer, load
from components.evaluate.asking import general_text
from components.evaluate.grading import ReferenceRules
from components.evaluate.kept import Kept, state_of
from components.evaluate.likelihood import choose, perplexity
from components.grading.cases import Case
from components.run.training_options import TrainingOptions
from components.shared.storage import read_jsonl, sha256_of_json, write_json
from components.training import backend

MEMORY_GIB = 44.0
MAX_ANSWER_TOKENS = 64
ORIGIN = "origin.json"

Job = dict[str, Any]
Questions = list[dict[str, Any]]
"""As components.data.questions reads them."""


def run_jobs(jobs: list[Job], do: Callable[[Job, Path], dict[str, Any]], work: Path, workers: int) -> None:
    """Do the jobs that have no result yet; `do` gets a job and a folder for its files, in a process of its own."""
    results = work / "results"
    results.mkdir(parents=True, exist_ok=True)
    write_json(work / ORIGIN, common.origin())
    todo = [(job, do, work) for job in jobs if not file_of(job, work).exists()]
    print(f"{len(todo)} of {len(jobs)} jobs to do, {workers} at a time", flush=True)
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for done, (job, outcome) in enumerate(pool.imap_unordered(_do, todo), 1):
            print(f"{time.monotonic() - started:.0f} s, {done} of {len(todo)}: {job}: {outcome}", flush=True)


def file_of(job: Job, work: Path) -> Path:
    """Where a job's result is."""
    return work / "results" / f"{sha256_of_json(job)[:16]}.json"


def _do(given: tuple[Job, Callable[[Job, Path], dict[str, Any]], Path]) -> tuple[Job, str]:
    job, do, work = given
    if torch.cuda.is_available():
        common.cap_memory(MEMORY_GIB)
        torch.cuda.reset_peak_memory_stats()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=work) as folder, (work / "log").open("a") as log:
        try:
            with contextlib.redirect_stdout(log):
                found = do(job, Path(folder))
            write_json(file_of(job, work), {"job": job, "seconds": time.monotonic() - started, **found})
            outcome = f"{time.monotonic() - started:.0f} s"
        except Exception:
            outcome = traceback.format_exc()
    gc.collect()
    torch.cuda.empty_cache()
    return job, outcome


def train(base: Path, rows: Path, options: TrainingOptions, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Train as the product does; the adapted model's folder, and what the training was like."""
    from transformers import AutoTokenizer

    read = read_jsonl(rows)
    tokenizer = AutoTokenizer.from_pretrained(base)
    samples = list(tokenize_rows(read, tokenizer, options.max_seq_len, str(rows), False))
    result = backend.run(base, samples, sha256_of_json(read)[:16], options, folder)
    return result.model_path, {
        "steps": len(result.steps),
        "loss_first": result.steps[0].loss,
        "loss_last": result.steps[-1].loss,
        "trainable_parameters": result.trainable_parameters,
        "peak_memory_gib": result.peak_memory_gib,
        "tokens_per_second": statistics.median(step.tokens_per_second for step in result.steps),
    }


class Asked:
    """A loaded model that is asked questions."""

    def __init__(self, folder: Path, system_prompt: str) -> None:
        self.model, self.tokenizer = load(folder)
        self.system_prompt = system_prompt
        self.state = state_of(folder)

    def right(self, questions: Questions, briefly: str = "") -> list[bool]:
        """Which of the questions it answers right, or chooses right, with the system prompt."""
        choices = [entry for entry in questions if entry.get("choices")]
        opened = [entry for entry in questions if not entry.get("choices")]
        found = dict(zip(map(id, choices), self._chosen(choices), strict=True))
        found |= zip(map(id, opened), self._answered(opened, briefly), strict=True)
        return [found[id(entry)] for entry in questions]

    def _chosen(self, questions: Questions) -> list[bool]:
        asked = [(entry["question"], entry["choices"]) for entry in questions]
        return [place == 0 for place in choose(self.model, self.tokenizer, self.system_prompt, asked, "model")]

    def _answered(self, questions: Questions, briefly: str) -> list[bool]:
        asked = [f"{entry['question']}\n{briefly}".strip() for entry in questions]
        replies = answer(
            self.model, self.tokenizer, self.system_prompt, asked, MAX_ANSWER_TOKENS, "model", Kept(None), self.state
        )
        cases = [
            Case(entry["question"], entry["reference"], reply.text)
            for entry, reply in zip(questions, replies, strict=True)
        ]
        verdicts = ReferenceRules().verdicts(cases)
        return [bool(verdicts[case].right) for case in cases]

    def perplexity(self) -> float:
        """On ordinary text."""
        return perplexity(self.model, self.tokenizer, general_text(), "model")


@contextlib.contextmanager
def asked(folder: Path, system_prompt: str) -> Iterator[Asked]:
    """A model while it is asked."""
    one = Asked(folder, system_prompt)
    yield one
    one.model.to("cpu")
    del one.model
    gc.collect()
    torch.cuda.empty_cache()


def remove_model(folder: Path) -> None:
    """Make room."""
    shutil.rmtree(folder, ignore_errors=True)


def results(work: Path) -> list[dict[str, Any]]:
    """All that was done."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((work / "results").glob("*.json"))]
