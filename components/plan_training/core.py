"""Before a GPU is requested: what will be trained, does it fit, and is there anything to do at all?"""

import dataclasses
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data.samples import tokenize_rows
from components.models.reference import find_judge, find_model
from components.models.shapes import Shapes, default_patterns
from components.plan_training.lengths import MIN_STOCK_SAMPLE, length_chart
from components.run.evaluation import Summary
from components.run.evaluation_options import EvaluationOptions
from components.run.plan import MemoryPlan, TrainingPlan
from components.run.publication import is_published, registered_name
from components.run.run_key import evaluation_key, run_key
from components.run.training_options import LORA, OSFT, SFT, TrainingOptions
from components.shared import pages, progress, reach, records
from components.shared.options import set_option
from components.shared.problems import Checks, list_some, problem
from components.shared.storage import iter_jsonl, read_json, write_json, write_text
from components.shared.workspace import (
    GIB,
    SNAPSHOT_MANIFEST,
    SUMMARY,
    TRAINING_REPORT,
    adapted_folder,
    check_workspace,
    folder_bytes,
    mark_used,
    run_folder,
)
from components.training.memory import expected_checkpoint_seconds, largest_ratio, largest_tokens, plan_memory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

JUDGE_SPACE = 1.1  # of its weights, with what passes
SAMPLES = ("train.jsonl", "held_out.jsonl")  # of the dataset


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What a run is asked to do, and on what."""

    options: dict[str, Any]
    """Training options that are parameters, by name."""
    further_options: dict[str, Any]
    """The other ones."""
    evaluation: dict[str, Any]
    """Evaluation options that are parameters, by name."""
    further_evaluation: dict[str, Any]
    """The other ones."""
    gpus: int
    """How many GPUs it will run on; 0 for the CPU."""
    gpu_memory_gib: float
    """Memory of each; 0 when it runs on this machine, whatever it has."""
    gpu_product: str
    """The GPU that it is placed on, as its node's label names it; empty for any."""
    publish_as: str
    """Name of a good model in the registry; empty for one after the base model."""
    registry: str
    """Address of the model registry; empty for none."""
    snapshot_seconds: float
    """What the snapshot took, for the report."""


def plan_training(
    *, dataset: Path, snapshot: Path, workspace: Path, output: Path, page: Path, **request: Any
) -> TrainingPlan:
    """Plan a run on what format_chat and snapshot_model made; write the plan, and a page to look at. Raises Problems
    when the run is impossible, with the change that would make it possible."""
    base = find_model(snapshot, workspace)
    manifest = read_json(base / SNAPSHOT_MANIFEST)
    plan, lengths = make_plan(base, manifest, dataset, workspace, Request(**request))
    mark_used(base / SNAPSHOT_MANIFEST)
    if judge := find_judge(snapshot, workspace):
        _check_judge(judge, plan.gpu_memory_gib)
        mark_used(judge / SNAPSHOT_MANIFEST)
    if plan.trained:
        mark_used(adapted_folder(workspace, plan.run_key) / TRAINING_REPORT)
    write_json(output, dataclasses.asdict(plan))
    write_text(
        page,
        pages.render(
            "components.plan_training",
            "plan.html.j2",
            title="Training plan",
            plan=plan,
            verdict=_verdict(plan),
            lengths=sorted(lengths),
            median=statistics.median(lengths),
            length_chart=length_chart(lengths, plan.options["max_seq_len"]),
            stock=MIN_STOCK_SAMPLE,
            duration=progress.duration,
        ),
    )
    for line in describe(plan):
        progress.log(line)
    records.note(run_key=plan.run_key, anything_to_do=plan.anything_to_do, to_do=_verdict(plan))
    return plan


def make_plan(
    base: Path, manifest: dict[str, Any], dataset: Path, workspace: Path, request: Request
) -> tuple[TrainingPlan, list[int]]:
    """Plan a run and change nothing; gives the plan, and the tokens of each sample. The base model's weights are not
    read; `manifest` is its snapshot.json. Raises Problems as `plan_training`."""
    from transformers import AutoTokenizer

    started = time.monotonic()
    gpus, gpu_memory_gib, gpu_product = request.gpus, request.gpu_memory_gib, request.gpu_product
    if gpus == 0:
        gpus, gpu_memory_gib, gpu_product = 1, 0.0, ""
    else:
        gpu_memory_gib = gpu_memory_gib or _own_gpu_memory_gib()
    checks = Checks()
    parsed, evaluated_by, name = TrainingOptions(), EvaluationOptions(), ""
    with checks.collecting():
        parsed = TrainingOptions.from_mapping(request.options, request.further_options)
    with checks.collecting():
        evaluated_by = EvaluationOptions.from_mapping(request.evaluation, request.further_evaluation)
        reach.check_judge(evaluated_by.judge_url)
    with checks.collecting():
        name = registered_name(request.publish_as, manifest["source"])
    if gpus > 1 and parsed.method != OSFT:
        checks.add(
            f"method is {parsed.method}, and {gpus} GPUs are asked for",
            where="training options and cluster file",
            rule="with several GPUs mini-trainer trains, which knows OSFT only",
            remedy=f'set gpu.count = "1" in the cluster file, or add {set_option(TrainingOptions, "method", OSFT)}',
        )
    checks.raise_if_any()
    if gpus <= 1:
        parsed = parsed.on("cuda" if gpu_memory_gib else "cpu")
    config, report = read_json(base / "config.json"), read_json(dataset / "report.json")
    Shapes.of(config).check_patterns(parsed.targets or (), parsed.targets_option, checks)
    parsed = parsed.with_targets(default_patterns(config["model_type"]))
    progress.log(f"counting the tokens of {report['samples']} samples")
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    lengths, _ = (_lengths(dataset / rows, tokenizer, parsed.max_seq_len, checks) for rows in SAMPLES)
    _check_context(checks, lengths, config)
    if gpus > 1:
        _check_for_stock(checks, lengths, parsed)
    memory = plan_memory(config, parsed, gpus)
    if 0 < gpu_memory_gib < memory.needed_gib:
        checks.add(
            f"the training needs about {memory.needed_gib:.1f} GiB of GPU memory, the GPU has {gpu_memory_gib:g}",
            where="training options and cluster file",
            rule=f"it must hold {memory.frozen_gib:.1f} GiB of frozen weights, {memory.trained_gib:.1f} of trained "
            f"weights and moments, {memory.gradients_gib:.1f} of gradients, {memory.activations_gib:.1f} of "
            "activations, and what fragmentation takes",
            remedy=what_fits(config, parsed, gpus, gpu_memory_gib),
        )
    key = run_key(report["data_digest"], manifest["commit"], parsed, gpus)
    trained = (adapted_folder(workspace, key) / TRAINING_REPORT).exists()
    with checks.collecting():
        there = folder_bytes(run_folder(workspace, key))
        check_workspace(workspace, 0 if trained else volume_bytes(manifest["bytes"], memory) - there)
    checks.raise_if_any()

    system_prompt = (dataset / "system_prompt.txt").read_text(encoding="utf-8")
    digests = [report["ingest"]["questions_digest"], report["held_out_digest"]]
    evaluation_id = evaluation_key(digests, system_prompt, evaluated_by)
    found = _last_evaluation(run_folder(workspace, key)) if trained else None
    evaluated = found is not None and found.evaluation_key == evaluation_id
    plan = TrainingPlan(
        run_key=key,
        evaluation_key=evaluation_id,
        trained=trained,
        evaluated=evaluated,
        published=found is not None
        and evaluated
        and (not found.good or is_published(workspace, key, name, request.registry)),
        options=parsed.as_json(),
        evaluation=dataclasses.asdict(evaluated_by),
        samples=len(lengths),
        tokens_per_epoch=sum(lengths),
        longest_sample=max(lengths),
        steps=parsed.steps(len(lengths)),
        memory=memory,
        gpus=gpus,
        gpu_memory_gib=gpu_memory_gib,
        gpu_product=gpu_product,
        publish={"name": name, "registry": request.registry},
        data=report,
        model={name: value for name, value in manifest.items() if name != "files"},
        snapshot_seconds=request.snapshot_seconds,
        seconds=time.monotonic() - started,
        checkpoint_seconds=_checkpoint_seconds(parsed, memory, gpus, gpu_memory_gib),
    )
    return plan, lengths


def describe(plan: TrainingPlan) -> list[str]:
    """A plan in a few lines."""
    lines = [
        f"run {plan.run_key}: {plan.samples} samples, {plan.tokens_per_epoch} tokens per epoch, longest "
        f"{plan.longest_sample}, {plan.steps} steps, about {plan.memory.total_gib:.1f} GiB"
    ]
    if plan.checkpoint_seconds:
        lines.append(f"checkpoints about every {progress.duration(plan.checkpoint_seconds)} while it trains")
    return [*lines, _verdict(plan)]


def _check_judge(judge: Path, gpu_memory_gib: float) -> None:
    """Make sure that the model that judges on the GPU fits into it; what it reads takes little beside its weights.

    Raises:
        Problems: when it does not.
    """
    size = folder_bytes(judge) / GIB
    if 0 < gpu_memory_gib < size * JUDGE_SPACE:
        raise problem(
            f"the judge's model has {size:.1f} GiB of weights, the GPU has {gpu_memory_gib:g} GiB of memory",
            where="parameter judge_model",
            rule="after base and adapted model have answered, the judge is read into the same GPU",
            remedy="name a smaller judge, one at an endpoint (judge_url), or none: the base model judges then",
        )


def _checkpoint_seconds(options: TrainingOptions, memory: MemoryPlan, gpus: int, gpu_memory_gib: float) -> float:
    if gpus > 1:
        return 0.0
    if options.checkpoint_minutes is not None:
        return options.checkpoint_minutes * 60
    return expected_checkpoint_seconds(memory, on_gpu=gpu_memory_gib > 0)


def _last_evaluation(run: Path) -> Summary | None:
    """The last evaluation of this run's model; None without one, or where another release wrote it."""
    try:
        return Summary.read(run) if (run / SUMMARY).exists() else None
    except ValueError:
        return None


def volume_bytes(model_bytes: int, memory: MemoryPlan) -> int:
    """Space that a training needs: for two checkpoints, while one replaces the other, or one and the result.

    A checkpoint holds the trained weights with their moments, the result is as large as the base model.
    """
    checkpoint = int(memory.trained_gib * GIB)
    return checkpoint + max(checkpoint, model_bytes)


def what_fits(config: dict[str, Any], options: TrainingOptions, gpus: int, gpu_memory_gib: float) -> str:
    """The option values with which the training would fit, as a remedy."""
    ways: dict[str, Any] = {"max_tokens_per_gpu": largest_tokens(config, options, gpus, gpu_memory_gib)}
    if options.method == OSFT:
        ways["unfreeze_rank_ratio"] = largest_ratio(config, options, gpus, gpu_memory_gib)
    lines = [f"add {set_option(TrainingOptions, name, most)} or less" for name, most in ways.items() if most]
    if options.method == SFT:
        others = (dataclasses.replace(options, method=method) for method in (OSFT, LORA))
        fitting = [other.method for other in others if plan_memory(config, other, gpus).needed_gib <= gpu_memory_gib]
        lines += [f"add {set_option(TrainingOptions, 'method', method)}" for method in fitting]
    return ", or ".join([*lines, "use a smaller model or a larger GPU"])


def _lengths(rows: Path, tokenizer: "PreTrainedTokenizerBase", max_seq_len: int, checks: Checks) -> list[int]:
    """Tokens of each sample of a file of chat rows, of which no more than one is held; adds what is wrong with them."""
    lengths = []
    with checks.collecting():
        for sample in tokenize_rows(iter_jsonl(rows), tokenizer, max_seq_len, f"the dataset's {rows.name}"):
            assert sample.loss_tokens, (
                f"row {sample.row} has no answer to train on; format_chat does not make such rows"
            )
            lengths.append(len(sample.tokens))
    return lengths


def _check_context(checks: Checks, lengths: list[int], config: dict[str, Any]) -> None:
    """Add samples that are longer than the model's context."""
    most = config.get("max_position_embeddings")
    longer = [number for number, length in enumerate(lengths, 1) if most is not None and length > most]
    if longer:
        checks.add(
            f"{len(longer)} of {len(lengths)} samples have more tokens than the model can read, up to {max(lengths)}",
            where=f"the dataset's train.jsonl, row {list_some(longer)}",
            rule=f"the model's config.json has max_position_embeddings = {most}",
            remedy="shorten these answers, or use a model with a longer context",
        )


def _check_for_stock(checks: Checks, lengths: list[int], options: TrainingOptions) -> None:
    """Add what mini-trainer would silently drop or ignore."""
    dropped = [n for n, length in enumerate(lengths, 1) if length < MIN_STOCK_SAMPLE or length >= options.max_seq_len]
    if dropped:
        checks.add(
            f"{len(dropped)} of {len(lengths)} samples would be dropped, the first of them in row {dropped[0]}",
            where="the dataset's train.jsonl",
            rule=f"with several GPUs mini-trainer trains, which drops samples of fewer than {MIN_STOCK_SAMPLE} "
            f"tokens and of {options.max_seq_len} or more",
            remedy='set gpu.count = "1" in the cluster file, or raise max_seq_len and lengthen short answers',
        )
    ignored = {"train_dtype": (options.train_dtype, "bfloat16"), "train_unfactored": (options.train_unfactored, False)}
    for name, (value, refused) in ignored.items():
        if value == refused:
            checks.add(
                f"{name} is {value!r}",
                where="training options",
                rule="with several GPUs mini-trainer trains, all weights and in float32 only",
                remedy=f'leave {name} out, or set gpu.count = "1" in the cluster file',
            )


def _own_gpu_memory_gib() -> float:
    import torch

    return torch.cuda.get_device_properties(0).total_memory / GIB if torch.cuda.is_available() else 0.0


def _verdict(plan: TrainingPlan) -> str:
    if not plan.trained:
        return "to do: train and evaluate"
    if not plan.evaluated:
        return f"already trained: run {plan.run_key}; to do: evaluate"
    if not plan.published:
        return f"already trained and evaluated: run {plan.run_key}; to do: publish as {plan.publish['name']}"
    return (
        f"nothing to do: run {plan.run_key} is trained and evaluated with the same data, model, options and questions"
    )
