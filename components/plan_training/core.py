"""Before any GPU is asked for: what will be trained, does it fit, and is there anything to do at all?"""

import dataclasses
import time
from pathlib import Path
from typing import Any

from components import pages, progress
from components.plan_training.memory import MemoryPlan, plan_memory
from components.problems import Checks, Problems
from components.storage import read_json, read_jsonl, sha256_of_json, write_json, write_text
from components.train_osft.loop import step_count
from components.train_osft.options import TrainingOptions
from components.train_osft.run_key import run_key
from components.train_osft.samples import tokenize_rows
from components.workspace import (
    SNAPSHOT_MANIFEST,
    SUMMARY,
    TRAINING_REPORT,
    adapted_folder,
    check_workspace,
    run_folder,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What a run will do."""

    run_key: str
    evaluation_key: str
    """Hash of what the evaluation asks: a trained model is asked again when the questions change."""
    trained: bool
    """The adapted model of this key is complete."""
    evaluated: bool
    """And so is its evaluation."""
    options: dict[str, Any]
    samples: int
    tokens_per_epoch: int
    longest_sample: int
    steps: int
    memory: MemoryPlan
    gpu_memory_gib: float
    data: dict[str, Any]
    """The report of format_chat."""
    model: dict[str, Any]
    """The manifest of the snapshot, without its files."""
    snapshot_seconds: float
    seconds: float

    @property
    def anything_to_do(self) -> bool:
        return not (self.trained and self.evaluated)


def plan_training(
    *,
    dataset: Path,
    snapshot: Path,
    workspace: Path,
    options: dict[str, Any],
    gpu_memory_gib: float,
    snapshot_seconds: float,
    output: Path,
    page: Path,
) -> TrainingPlan:
    """Plan a run; write the plan and its page.

    Args:
        dataset: what format_chat made.
        snapshot: what snapshot_model made.
        workspace: the run's workspace.
        options: training options by name.
        gpu_memory_gib: memory of the GPU it will run on; 0 when it runs on the CPU.
        snapshot_seconds: what the snapshot took, for the report.
        output: JSON file to make: the plan.
        page: HTML page to make: the plan to look at.

    Raises:
        Problems: when the run is impossible, with the change that would make it possible.
    """
    from transformers import AutoConfig, AutoTokenizer

    started = time.monotonic()
    parsed = TrainingOptions.from_mapping(options)
    checks = Checks()
    rows = read_jsonl(dataset / "train.jsonl")
    progress.say(f"counting the tokens of {len(rows)} samples")
    lengths: list[int] = []
    loss_free: list[int] = []
    try:
        samples = tokenize_rows(rows, AutoTokenizer.from_pretrained(snapshot), parsed.max_seq_len, "training data")
        lengths = [len(sample.tokens) for sample in samples]
        loss_free = [number for number, sample in enumerate(samples, 1) if sample.loss_tokens == 0]
    except Problems as error:
        checks.collect(error)
    assert not loss_free, f"rows {loss_free} have nothing to learn; format_chat does not make such rows"

    memory = plan_memory(AutoConfig.from_pretrained(snapshot), parsed)
    if 0 < gpu_memory_gib < memory.total_gib:
        checks.add(
            f"the training needs about {memory.total_gib:.0f} GiB of GPU memory, the GPU has {gpu_memory_gib:g}",
            where="training options and cluster file",
            rule=f"{memory.frozen_gib:.1f} GiB frozen factors + {memory.trained_gib:.1f} GiB trained with gradients "
            f"and optimizer + {memory.activations_gib:.1f} GiB activations must fit",
            remedy="lower unfreeze_rank_ratio or max_tokens_per_gpu, or take a smaller model or a larger GPU",
        )
    manifest = read_json(snapshot / SNAPSHOT_MANIFEST)
    report = read_json(dataset / "report.json")
    key = run_key(report["data_digest"], manifest["commit"], parsed)
    trained = (adapted_folder(workspace, key) / TRAINING_REPORT).exists()
    try:
        check_workspace(workspace, 0 if trained else manifest["bytes"])
    except Problems as error:
        checks.collect(error)
    checks.raise_if_any()

    system_prompt = (dataset / "system_prompt.txt").read_text(encoding="utf-8")
    evaluation_key = sha256_of_json([report["ingest"]["questions_digest"], system_prompt])[:16]
    summary = run_folder(workspace, key) / SUMMARY
    evaluated = trained and summary.exists() and read_json(summary)["evaluation_key"] == evaluation_key
    plan = TrainingPlan(
        run_key=key,
        evaluation_key=evaluation_key,
        trained=trained,
        evaluated=evaluated,
        options=parsed.as_json(),
        samples=len(lengths),
        tokens_per_epoch=sum(lengths),
        longest_sample=max(lengths),
        steps=step_count(len(lengths), parsed),
        memory=memory,
        gpu_memory_gib=gpu_memory_gib,
        data=report,
        model={name: value for name, value in manifest.items() if name != "files"},
        snapshot_seconds=snapshot_seconds,
        seconds=time.monotonic() - started,
    )
    write_json(output, dataclasses.asdict(plan))
    write_text(page, pages.render("components.plan_training", "plan.html.j2", title="Training plan", plan=plan))
    progress.say(
        f"run {key}: {plan.samples} samples, {plan.tokens_per_epoch} tokens an epoch, longest {plan.longest_sample}, "
        f"{plan.steps} steps, about {memory.total_gib:.1f} GiB"
    )
    progress.say(_verdict(plan))
    return plan


def _verdict(plan: TrainingPlan) -> str:
    if not plan.trained:
        return "to do: train and evaluate"
    if not plan.evaluated:
        return f"already trained: run {plan.run_key}; to do: evaluate"
    return (
        f"nothing to do: run {plan.run_key} is trained and evaluated with the same data, model, options and questions"
    )
