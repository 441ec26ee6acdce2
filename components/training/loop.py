"""The training loop: samples in, a trained model and a line per step out.

Each optimizer step computes `effective_batch_size` samples in one or more packs; its loss is the sum over all their
loss tokens divided by their number.
"""

import dataclasses
import math
import random
import time
import zlib
from collections.abc import Callable, Iterator

import torch

from components.data.packs import packs
from components.data.samples import Sample
from components.run.training_options import TrainingOptions
from components.shared.problems import list_some, problem
from components.training.loss import PackLoss
from components.training.optimizer import Optimizer

DIVERGED_STEPS = 5  # as many losses in a row above the limit are no accident


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """What one optimizer step did; a line of metrics.jsonl."""

    step: int
    """From 1."""
    steps: int
    """Steps of the whole training."""
    epoch: int
    """From 1."""
    loss: float
    """Mean negative log-likelihood per loss token, in nats, before this step's update."""
    learning_rate: float
    gradient_norm: float
    """Before clipping."""
    tokens: int
    """Tokens computed in this step."""
    loss_tokens: int
    seconds: float
    peak_memory_gib: float
    """Most GPU memory allocated so far; 0 on the CPU."""

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


def batches(samples: list[Sample], options: TrainingOptions) -> Iterator[tuple[int, list[Sample]]]:
    """The samples of each optimizer step, with the epoch from 1; shuffled anew in each epoch, decided by the seed."""
    for epoch in range(1, options.num_epochs + 1):
        order = list(range(len(samples)))
        random.Random(f"{options.seed}/{epoch}").shuffle(order)  # noqa: S311 - an order, not a secret
        for start in range(0, len(order), options.effective_batch_size):
            yield epoch, [samples[index] for index in order[start : start + options.effective_batch_size]]


def learning_rates(options: TrainingOptions, steps: int) -> list[float]:
    """The learning rate of each step, by transformers' scheduler of the name in the options."""
    from transformers import get_scheduler

    carrier = torch.optim.SGD([torch.zeros(1)], lr=options.learning_rate)
    schedule = get_scheduler(
        options.lr_scheduler,
        carrier,
        num_warmup_steps=options.warmup_steps,
        num_training_steps=steps,
        scheduler_specific_kwargs=dict(options.lr_scheduler_kwargs),
    )
    rates = []
    for _ in range(steps):
        rates.append(float(schedule.get_last_lr()[0]))
        carrier.step()
        schedule.step()
    return rates


def train(
    pack_loss: PackLoss,
    optimizer: Optimizer,
    samples: list[Sample],
    options: TrainingOptions,
    history: list[StepMetrics],
    on_step_begin: Callable[[int], None],
    on_step: Callable[[StepMetrics], bool],
) -> None:
    """Train a loaded model in place.

    Args:
        pack_loss: of the model.
        optimizer: of the model.
        samples: the tokenized training data.
        history: the steps already done, when a training is resumed; new ones are added.
        on_step_begin: called before each optimizer step, with its epoch.
        on_step: called after each optimizer step; the training ends after it when it returns False.

    Raises:
        Problems: when the loss is NaN or infinite (that step changed nothing), or diverges.
    """
    model = pack_loss.model
    device = pack_loss.head.weight.device
    steps = options.steps(len(samples))
    rates = learning_rates(options, steps)
    done = len(history)
    model.train()
    for step, (epoch, batch) in enumerate(batches(samples, options), 1):
        if step <= done:
            continue
        on_step_begin(epoch)
        if options.lora_dropout:
            torch.manual_seed(zlib.crc32(f"{options.seed}/{step}".encode()))  # a resumed training leaves out the same
        started = time.monotonic()
        loss_tokens = sum(sample.loss_tokens for sample in batch)
        losses = []
        for pack in packs(batch, options.max_tokens_per_gpu, device):
            share = pack_loss(pack, loss_tokens)
            share.backward()
            losses.append(share.detach())
        # Read before the weights move, so that a GPU is busy with that while the next step is prepared here.
        loss, gradient_norm = torch.stack([torch.stack(losses).sum(), optimizer.finish_gradients()]).tolist()
        optimizer.step(step, rates[step - 1], gradient_norm)
        metrics = StepMetrics(
            step=step,
            steps=steps,
            epoch=epoch,
            loss=loss,
            learning_rate=rates[step - 1],
            gradient_norm=gradient_norm,
            tokens=sum(len(sample.tokens) for sample in batch),
            loss_tokens=loss_tokens,
            seconds=time.monotonic() - started,
            peak_memory_gib=torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0,
        )
        history.append(metrics)
        check_health(history, batch, pack_loss.vocabulary)
        if not on_step(metrics):
            break
    model.eval()


def check_health(history: list[StepMetrics], batch: list[Sample], vocabulary: int) -> None:
    """Raises:
    Problems: when the last step's loss or gradient is NaN or infinite, or several losses in a row are worse than
        guessing and worse than twice the first.
    """
    last, recent = history[-1], history[-DIVERGED_STEPS:]
    limit = max(2 * history[0].loss, math.log(vocabulary))
    if not (math.isfinite(last.loss) and math.isfinite(last.gradient_norm)):
        what = f"step {last.step} of {last.steps} has loss {last.loss:g} and gradient norm {last.gradient_norm:g}"
        rule = "training continues only while loss and gradients are finite; this step changed no weight"
    elif len(recent) == DIVERGED_STEPS and all(metrics.loss > limit for metrics in recent):
        what = f"the loss diverges: {recent[0].loss:.2f} to {last.loss:.2f} in steps {recent[0].step} to {last.step}, "
        what += f"{history[0].loss:.2f} in the first"
        rule = f"{DIVERGED_STEPS} losses in a row above {limit:.2f} are worse than guessing tokens at random"
    else:
        return
    raise problem(
        what,
        where=f"rows {list_some(sorted(sample.row for sample in batch))} of the training data (train.jsonl)",
        rule=rule,
        remedy=f"lower learning_rate (it was {last.learning_rate:g}; try a tenth), set warmup_steps, "
        "and check these rows",
    )
