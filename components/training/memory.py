"""GPU memory that a training needs, from config.json alone.

What lasts is counted: what is frozen, trained weights with their moments, gradients. What passes (activations of one
layer that is computed again, the inputs of all others, logits, a matrix' decomposition) is counted per token and per
matrix with factors fitted to measurements on a GPU (benchmarks/memory.py).
"""

import bisect
import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from components.models.shapes import LOGITS_AT_ONCE, MATRIX_UNIT, MIN_COMPACT, Shapes, frozen_rank, protection_ranks
from components.run.plan import MemoryPlan
from components.run.training_options import LORA, OSFT, TrainingOptions
from components.shared.workspace import GIB

MAX_TOKENS = 1 << 16
# Checkpoints may cost a hundredth of the training's time and keep the volume busy for half of it: a pod that is deleted
# loses at most the time between two.
COST_SHARE, WRITING_SHARE = 0.01, 0.5
MIN_CHECKPOINT_SECONDS, MAX_CHECKPOINT_SECONDS = 60.0, 600.0
COPIED_BYTES_PER_SECOND = 11e9  # from a GPU to the host's memory, measured (benchmarks/training_8b.py)
WRITTEN_BYTES_PER_SECOND = 0.7e9  # 815 MB of SmolLM2 cost a training on two cores 0.9 to 1.5 s, most of it for hashing
# Fitted to the measurements. Bytes per token in a layer that is computed again, for each entry of the hidden size, of
# the intermediate size and of the trained directions, in bfloat16; per logit of a piece; per entry of a matrix that is
# decomposed; per entry of an embedding that is taken over.
HIDDEN, INTERMEDIATE, LOW, LOGIT, DECOMPOSED, EMBEDDED = 16.7, 11.6, 1.8, 22.5, 36, 10.8
STOCK_LOGIT = 18  # bytes for each token and word of the vocabulary in mini-trainer
WORKSPACES = 4 * 32 * 2**20  # of the matrix library, one for each thread that used it
ODD = 80_000  # bytes at the end of a tensor above 1 MiB that torch gives to no other, on average
TENSORS = 5  # of a factored matrix that lasts, above 1 MiB in a large model
SMALL_BYTES = 4 * 4  # value, two moments and gradient in float32


def checkpoint_seconds(cost: float, writing: float) -> float:
    """Time between two checkpoints, of which one costs so many seconds of training, and keeps the volume busy for so
    many."""
    return min(MAX_CHECKPOINT_SECONDS, max(MIN_CHECKPOINT_SECONDS, cost / COST_SHARE, writing / WRITING_SHARE))


def expected_checkpoint_seconds(plan: MemoryPlan, on_gpu: bool) -> float:
    """The time between two checkpoints that a plan states before anything is measured."""
    size = plan.trained_gib * GIB
    return checkpoint_seconds(size / (COPIED_BYTES_PER_SECOND if on_gpu else WRITTEN_BYTES_PER_SECOND), 0.0)


def plan_memory(config: Mapping[str, Any], options: TrainingOptions, gpus: int = 1) -> MemoryPlan:
    """Memory of a training on each of its GPUs, from the model's config.json; `train_dtype` is decided for one GPU,
    more than one are mini-trainer's."""
    shapes = Shapes.of(config)
    if gpus > 1:
        return _plan_stock(shapes, options, gpus)
    wide = 4 if options.train_dtype == "float32" else 2
    copy = 2 if wide == 2 else 0  # bytes of one to compute with
    frozen = trained = gradients = 0.0

    def train(entries: int, copies: int) -> None:
        nonlocal trained, gradients
        compact = wide == 2 and entries >= MIN_COMPACT
        # Codes with their share of three scales for 256 entries, or value and moments in float32.
        trained += copies * entries * (4 + 12 / 256 if compact else 12)
        gradients += copies * entries * wide

    def keep(entries: int, copies: int) -> None:
        """As the model has it, trained or frozen."""
        nonlocal frozen, trained
        if options.trains_rest:
            train(entries, copies)
            trained += copies * entries * copy
        else:
            frozen += copies * entries * wide

    for (rows, columns), rank, chosen in _split(shapes, options):
        if options.method == OSFT:
            keep(rows * columns, shapes.layers - chosen)
            free = min(rows, columns) - rank
            frozen += chosen * rank * (rows + columns + 1) * wide
            if rank * min(rows, columns) * wide > 2**20:
                frozen += chosen * TENSORS * ODD
            train(free * (rows + columns), chosen)
            trained += chosen * free * (SMALL_BYTES + copy)
        else:
            keep(rows * columns, shapes.layers)
            if options.protects and rank:
                output, input = protection_ranks((rows, columns), rank)
                frozen += chosen * ((output * rows + input * columns) * wide)
            adapters = chosen * options.lora_r * (rows + columns)
            trained += adapters * (SMALL_BYTES + copy)
            gradients += adapters * wide
    if options.trains_rest:
        trained += (shapes.layers * shapes.small + shapes.hidden) * (SMALL_BYTES + copy)
    keep(shapes.vocabulary * shapes.hidden, 1 if shapes.tied else 2)
    return MemoryPlan(
        frozen_gib=frozen / GIB,
        trained_gib=trained / GIB,
        gradients_gib=gradients / GIB,
        activations_gib=(_most_beside(shapes, options, wide, gradients) - gradients) / GIB,
    )


def _split(shapes: Shapes, options: TrainingOptions) -> Iterator[tuple[tuple[int, int], int, int]]:
    """For each matrix of a layer its shape, its frozen rank, and in how many layers it is factored or has adapters."""
    targets = shapes.targets(options.targets)
    for name, shape in shapes.matrices.items():
        rank = frozen_rank(shape, options.unfreeze_rank_ratio)
        yield shape, rank, sum(name in layer for layer in targets) if rank or options.method != OSFT else 0


def _plan_stock(shapes: Shapes, options: TrainingOptions, gpus: int) -> MemoryPlan:
    """mini-trainer keeps everything in float32 and spreads it evenly; logits of all tokens are held several times."""
    frozen = trained = 0
    for (rows, columns), rank, factored in _split(shapes, options):
        free = min(rows, columns) - rank
        frozen += factored * rank * (rows + columns + 1)
        trained += factored * free * (rows + columns + 1) + (shapes.layers - factored) * rows * columns
    embedding = shapes.vocabulary * shapes.hidden
    trained += shapes.layers * shapes.small + shapes.hidden + embedding * (1 if shapes.tied else 2)
    tokens = options.max_tokens_per_gpu
    layer = tokens * (HIDDEN * shapes.hidden + INTERMEDIATE * shapes.intermediate) * 2
    inputs = shapes.layers * tokens * shapes.hidden * 4
    return MemoryPlan(
        frozen_gib=frozen * 4 / gpus / GIB,
        trained_gib=trained * 12 / gpus / GIB,
        gradients_gib=trained * 4 / gpus / GIB,
        activations_gib=(inputs + layer + STOCK_LOGIT * tokens * shapes.vocabulary) / GIB,
    )


def largest_tokens(config: Mapping[str, Any], options: TrainingOptions, gpus: int, gpu_memory_gib: float) -> int | None:
    """The largest max_tokens_per_gpu, in steps of 256 or max_seq_len itself, that fits; None when none does."""
    candidates = [options.max_seq_len, *range(256 * (options.max_seq_len // 256 + 1), MAX_TOKENS + 1, 256)]
    return _largest_fitting("max_tokens_per_gpu", candidates, config, options, gpus, gpu_memory_gib)


def largest_ratio(
    config: Mapping[str, Any], options: TrainingOptions, gpus: int, gpu_memory_gib: float
) -> float | None:
    """The largest unfreeze_rank_ratio, in hundredths, that fits; None when none does."""
    candidates = [hundredths / 100 for hundredths in range(1, 100)]
    return _largest_fitting("unfreeze_rank_ratio", candidates, config, options, gpus, gpu_memory_gib)


def _largest_fitting(
    name: str, candidates: Sequence[Any], config: Mapping[str, Any], options: TrainingOptions, gpus: int, limit: float
) -> Any:
    """The largest of an option's ascending values with which the memory needed stays within a limit in GiB."""

    def needs_too_much(value: Any) -> bool:
        return plan_memory(config, dataclasses.replace(options, **{name: value}), gpus).needed_gib > limit

    fitting = bisect.bisect_left(candidates, True, key=needs_too_much)
    return candidates[fitting - 1] if fitting else None


def _most_beside(shapes: Shapes, options: TrainingOptions, wide: int, gradients: float) -> float:
    """The most bytes that are there beside the frozen and trained weights, at whichever moment that is."""
    tokens = options.max_tokens_per_gpu
    ends = 3 * tokens * shapes.hidden * wide  # what comes out, the part with a loss, and its gradient
    inputs = shapes.layers * tokens * shapes.hidden * wide  # of all layers, kept for their second computation
    layer = max(_layer(shapes, options, wide, targets) for targets in set(shapes.targets(options.targets)))
    output = shapes.vocabulary * shapes.hidden * wide
    padded = output if shapes.vocabulary % MATRIX_UNIT and wide == 2 else 0
    embedding = output if options.trains_rest else 0  # gradient
    logits = LOGIT * min(tokens * shapes.vocabulary, LOGITS_AT_ONCE)
    moments = {
        "the loss is computed": inputs + ends + embedding + padded + logits,
        "the last layer is computed again": inputs + embedding + layer,
        "the first layer is computed again": gradients + layer,
    }
    if options.protects:
        decomposed = max((math.prod(shape) for shape, _, factored in _split(shapes, options) if factored), default=0)
        moments["two matrices are decomposed"] = 2 * DECOMPOSED * decomposed
    if options.trains_rest:
        moments["the embedding is taken over"] = EMBEDDED * shapes.vocabulary * shapes.hidden
        moments["the embedding's two gradients are added"] = gradients + (2 if shapes.tied else 1) * embedding
    if options.method == LORA:
        moments["the adapters' gradients are gathered"] = 2 * gradients
    return WORKSPACES + max(moments.values())


def _layer(shapes: Shapes, options: TrainingOptions, wide: int, targets: Collection[str]) -> float:
    """Bytes that a layer takes while it is computed again and its gradients are made, with these matrices chosen."""
    free, made = 0, 0  # trained directions; entries of copies to compute with, or of a gradient before it is added
    for name, shape in shapes.matrices.items():
        rank = frozen_rank(shape, options.unfreeze_rank_ratio) if options.method == OSFT else 0
        directions = options.lora_r if options.method == LORA else min(shape) - rank
        if name in targets and (rank or options.method == LORA):
            free += directions
            made += directions * sum(shape)
        elif options.trains_rest:
            made += math.prod(shape)
    tokens = options.max_tokens_per_gpu
    return tokens * (HIDDEN * shapes.hidden + INTERMEDIATE * shapes.intermediate + LOW * free) * wide / 2 + made * wide
