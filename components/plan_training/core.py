"""Before a GPU is requested: what will be trained, does it fit, and is there anything to do at all?"""

import dataclasses
import os
import statistics
import time
from pathlib import Path
from typing import Any

from components.models.reference import find_judge, find_model
from components.models.shapes import Shapes, default_patterns
from components.models.trial import conversation, try_model
from components.plan_training.beginning import find_beginning
from components.plan_training.duration import training_seconds
from components.plan_training.lengths import (
    MIN_STOCK_SAMPLE,
    check_context,
    check_for_stock,
    check_steps,
    length_chart,
    rate_remarks,
    sample_lengths,
)
from components.plan_training.words import SAMPLES, Words
from components.run.evaluation import Summary
from components.run.evaluation_options import EvaluationOptions
from components.run.lineage import check_start, start_folder
from components.run.plan import BASE, MemoryPlan, TrainingPlan
from components.run.publication import is_published, registered_name
from components.run.run_key import evaluation_key
from components.run.training_options import LORA, OSFT, SFT, TrainingOptions
from components.shared import pages, progress, reach, records
from components.shared.options import set_option
from components.shared.problems import Checks, problem
from components.shared.storage import read_json, write_json, write_text
from components.shared.workspace import (
    GIB,
    PLAN_PAGE,
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

JUDGE_SPACE = 1.1  # of its weights, with what passes


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
    start_from: str = BASE
    """STARTS: what the training starts from."""
    snapshot_seconds: float
    """What the snapshot took, for the report."""

    @property
    def is_for_this_machine(self) -> bool:
        return self.gpus > 0 and not self.gpu_memory_gib


def plan_training(
    *, dataset: Path, snapshot: Path, workspace: Path, output: Path, page: Path, **request: Any
) -> TrainingPlan:
    """Plan a run on what format_chat and snapshot_model made; write the plan, and a page to look at, which lies in the
    run's folder as well. Raises Problems when the run is impossible, with the change that would make it possible."""
    base = find_model(snapshot, workspace)
    manifest = read_json(base / SNAPSHOT_MANIFEST)
    asked = Request(**request)
    plan, lengths = make_plan(base, manifest, dataset, workspace, asked)
    mark_used(base / SNAPSHOT_MANIFEST)
    if judge := find_judge(snapshot, workspace):
        check_judge(judge, plan.gpu_memory_gib)
        mark_used(judge / SNAPSHOT_MANIFEST)
    if plan.trained:
        mark_used(adapted_folder(workspace, plan.model_name) / TRAINING_REPORT)
    if not plan.evaluated and plan.lineage:
        mark_used(start_folder(workspace, plan, base) / TRAINING_REPORT)
    write_json(output, dataclasses.asdict(plan))
    shown = pages.render(
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
    )
    write_text(page, shown)
    if not plan.evaluated:  # the report that comes links to it
        write_text(run_folder(workspace, plan.run_key) / PLAN_PAGE, shown)
    for line in describe(plan):
        progress.log(line)
    if asked.is_for_this_machine and not plan.trained:
        device = "GPU" if plan.gpu_memory_gib else "CPU"
        seconds = training_seconds(plan, base)
        progress.log(f"training takes about {progress.duration(seconds)} on this machine's {device}")
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
    with checks.collecting():
        check_start(request.start_from)
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
    checks.raise_if_any()
    begun = find_beginning(workspace, request.start_from, name, report["data_digest"], manifest["commit"], parsed, gpus)
    key, parsed = begun.run_key, begun.options
    system_prompt = (dataset / "system_prompt.txt").read_text(encoding="utf-8")
    remarks = try_model(base, str(manifest["source"]), conversation(system_prompt))
    progress.log(f"counting the tokens of {report['samples']} samples")
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    words = Words(tokenizer, config["vocab_size"])
    words.read(dataset)
    words.check(parsed, gpus, checks)
    lengths, _ = (sample_lengths(dataset / rows, tokenizer, parsed, checks) for rows in SAMPLES)
    if not checks.problems:  # otherwise rows are missing here
        check_steps(checks, len(lengths), parsed)
    check_context(checks, lengths, config)
    if gpus > 1:
        check_for_stock(checks, lengths, parsed)
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
    host_gib = _host_memory_gib()
    if request.is_for_this_machine and not gpu_memory_gib and memory.needed_gib > host_gib:
        checks.add(
            f"the training needs about {memory.needed_gib:.1f} GiB of memory, this machine has {host_gib:.1f}",
            where="training options",
            rule="without a GPU the model is trained in the memory of the CPU, in float32",
            remedy=what_fits(config, parsed, gpus, host_gib),
        )
    digests = [report["ingest"]["questions_digest"], report["held_out_digest"]]
    digests += [begun.questions_digest] if begun.questions_digest else []
    evaluation_id = evaluation_key(digests, system_prompt, evaluated_by)
    found = _last_evaluation(run_folder(workspace, key))
    is_current = found is not None and found.evaluation_key == evaluation_id
    model = _model_of(workspace, key, found, is_current)
    trained = _is_complete(workspace, model)
    evaluated = found is not None and is_current and trained and found.model == model
    with checks.collecting():
        there = folder_bytes(run_folder(workspace, key))
        needed = volume_bytes(manifest["bytes"], memory, rewinds=bool(evaluated_by.rewind_shares))
        check_workspace(workspace, 0 if trained else needed - there)
    checks.raise_if_any()
    plan = TrainingPlan(
        run_key=key,
        evaluation_key=evaluation_id,
        trained=trained,
        evaluated=evaluated,
        published=found is not None
        and evaluated
        and (not found.good or is_published(workspace, key, model, name, request.registry)),
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
        lineage=begun.lineage,
        remarks=(*remarks, *words.remarks(parsed), *rate_remarks(len(lengths), parsed)),
        start_note=begun.note,
        adapted="" if model == key else model,
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
    lines += [plan.start_note] if plan.start_note else []
    lines += [f"remark: {text}" for text in plan.remarks]
    return [*lines, _verdict(plan)]


def check_judge(judge: Path, gpu_memory_gib: float) -> None:
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


def _model_of(workspace: Path, key: str, found: Summary | None, is_current: bool) -> str:
    """The folder of a run's model below adapted/: the one that this very evaluation is of; otherwise as it was trained,
    or where that one is gone, a rewound one."""
    names = [key] if found is None else [found.model, key] if is_current else [key, found.model]
    return next((name for name in names if _is_complete(workspace, name)), key)


def _is_complete(workspace: Path, model: str) -> bool:
    return (adapted_folder(workspace, model) / TRAINING_REPORT).exists()


def volume_bytes(model_bytes: int, memory: MemoryPlan, rewinds: bool = False) -> int:
    """Space that a training needs: for two checkpoints, while one replaces the other, or one and the result; and after
    it for a rewound model beside the result.

    A checkpoint holds the trained weights with their moments, a result is as large as the base model.
    """
    checkpoint = int(memory.trained_gib * GIB)
    return max(checkpoint + max(checkpoint, model_bytes), 2 * model_bytes if rewinds else 0)


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


def _own_gpu_memory_gib() -> float:
    import torch

    return torch.cuda.get_device_properties(0).total_memory / GIB if torch.cuda.is_available() else 0.0


def _host_memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB


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
