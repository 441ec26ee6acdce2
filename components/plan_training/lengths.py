"""How long the samples are, in tokens: a histogram, and which of them cannot be trained on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from components.data.samples import tokenize_rows
from components.run.training_options import DROP, TrainingOptions
from components.shared.drawing import Plot
from components.shared.options import set_option
from components.shared.problems import Checks, list_some
from components.shared.storage import iter_jsonl

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MIN_STOCK_SAMPLE = 20  # tokens; instructlab.training.data_process drops what is shorter
BARS = 40
MAX_STEPS = 10_000_000
MIN_CHANGE = 1e-6  # of a weight; most are of the order of a hundredth, in bfloat16 1e-4 apart


def length_chart(lengths: Sequence[int], max_seq_len: int) -> Markup:
    """How many samples have how many tokens, up to max_seq_len."""
    width = max(1, -(-max_seq_len // BARS))
    counts = np.bincount(np.asarray(lengths) // width, minlength=1).tolist()
    plot = Plot(0, max(max_seq_len, width * len(counts)), "tokens per sample")
    plot.bars(counts, width, "samples")
    plot.mark(MIN_STOCK_SAMPLE, "mini-trainer drops shorter ones")
    plot.mark(max_seq_len, "max_seq_len")
    return plot.svg("Histogram: how many samples have how many tokens")


def sample_lengths(
    rows: Path, tokenizer: "PreTrainedTokenizerBase", options: TrainingOptions, checks: Checks
) -> list[int]:
    """Tokens of each sample of a file of chat rows, of which no more than one is held; adds what is wrong with them."""
    lengths = []
    with checks.collecting():
        drops, where = options.control_tokens == DROP, f"the dataset's {rows.name}"
        for sample in tokenize_rows(iter_jsonl(rows), tokenizer, options.max_seq_len, where, drop_control_tokens=drops):
            assert sample.loss_tokens, (
                f"row {sample.row} has no answer to train on; format_chat does not make such rows"
            )
            lengths.append(len(sample.tokens))
    return lengths


def check_context(checks: Checks, lengths: list[int], config: dict[str, Any]) -> None:
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


def check_for_stock(checks: Checks, lengths: list[int], options: TrainingOptions) -> None:
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


def check_steps(checks: Checks, samples: int, options: TrainingOptions) -> None:
    """Add a training without samples, without an end, or that ends before its learning rate has come to its peak."""
    steps = options.steps(samples)
    if not samples:
        checks.add(
            "no sample is left to train on",
            where="the dataset's train.jsonl",
            rule="rows with control tokens in their words are dropped",
            remedy="leave control_tokens out, or take these words out of the data",
        )
    elif steps > MAX_STEPS:
        checks.add(
            f"the training has {steps} optimizer steps",
            where="training options num_epochs and effective_batch_size",
            rule=f"a training of more than {MAX_STEPS} does not end",
            remedy=f"for instance {set_option(TrainingOptions, 'num_epochs', 1)}",
        )
    elif options.warmup_steps >= steps:
        checks.add(
            f"warmup_steps is {options.warmup_steps}, the training has {steps} optimizer steps",
            where="training option warmup_steps",
            rule="the learning rate comes to its peak before the training ends",
            remedy=f"for instance {set_option(TrainingOptions, 'warmup_steps', steps // 10)}",
        )


def rate_remarks(samples: int, options: TrainingOptions) -> list[str]:
    """What is worth knowing of a training's learning rate."""
    most = options.learning_rate * options.steps(samples)
    if most >= MIN_CHANGE:
        return []
    return [
        f"learning_rate {options.learning_rate:g} moves a weight by {most:.0e} at most in all "
        f"{options.steps(samples)} steps: the model will hardly change"
    ]
