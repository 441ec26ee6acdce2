"""The training loop: samples in, a trained model and a line per step out.

Each optimizer step learns from `effective_batch_size` samples, computed in one or more packs; its loss is the sum over
all their loss tokens divided by their number. Gradients are clipped to norm 1, projected, applied by AdamW, and the
factors projected again: the order of mini_trainer.train.take_gradient_step.
"""

import dataclasses
import math
import random
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.train_osft.factors import OSFTLinear, factored_layers
from components.train_osft.options import TrainingOptions
from components.train_osft.samples import Pack, Sample, packs

MAX_GRADIENT_NORM = 1.0  # fixed in mini_trainer too


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


def step_count(samples: int, options: TrainingOptions) -> int:
    """Optimizer steps of a training; the last step of an epoch may have fewer samples."""
    return math.ceil(samples / options.effective_batch_size) * options.num_epochs


def batches(samples: list[Sample], options: TrainingOptions) -> Iterator[tuple[int, list[Sample]]]:
    """The samples of each optimizer step, with the epoch from 1; shuffled anew in each epoch, decided by the seed."""
    for epoch in range(1, options.num_epochs + 1):
        order = list(range(len(samples)))
        random.Random(f"{options.seed}/{epoch}").shuffle(order)  # noqa: S311 - an order, not a secret
        for start in range(0, len(order), options.effective_batch_size):
            yield epoch, [samples[index] for index in order[start : start + options.effective_batch_size]]


def train(
    model: nn.Module, samples: list[Sample], options: TrainingOptions, on_step: Callable[[StepMetrics], None]
) -> list[StepMetrics]:
    """Train a factorized model in place.

    Args:
        model: a transformers causal language model after `factors.factorize`, on its device.
        samples: the tokenized training data.
        on_step: called after each optimizer step.

    Returns:
        the metrics of all steps.
    """
    from transformers import get_scheduler

    device = next(model.parameters()).device
    factors = list(factored_layers(model).values())
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    steps = step_count(len(samples), options)
    optimizer = torch.optim.AdamW(
        parameters,
        lr=options.learning_rate,
        betas=(options.beta1, options.beta2),
        eps=options.eps,
        weight_decay=options.weight_decay,
        fused=True,
    )
    schedule = get_scheduler(
        options.lr_scheduler,
        optimizer,
        num_warmup_steps=options.warmup_steps,
        num_training_steps=steps,
        scheduler_specific_kwargs=dict(options.lr_scheduler_kwargs),
    )
    model.train()
    history = []
    for step, (epoch, batch) in enumerate(batches(samples, options), 1):
        started = time.monotonic()
        learning_rate = schedule.get_last_lr()[0]
        loss_tokens = sum(sample.loss_tokens for sample in batch)
        loss = 0.0
        for pack in packs(batch, options.max_tokens_per_gpu, device):
            share = pack_loss(model, pack) / loss_tokens
            share.backward()
            loss += share.item()
        gradient_norm = optimizer_step(parameters, factors, optimizer)
        schedule.step()
        metrics = StepMetrics(
            step=step,
            steps=steps,
            epoch=epoch,
            loss=loss,
            learning_rate=learning_rate,
            gradient_norm=gradient_norm,
            tokens=sum(len(sample.tokens) for sample in batch),
            loss_tokens=loss_tokens,
            seconds=time.monotonic() - started,
            peak_memory_gib=torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0,
        )
        history.append(metrics)
        on_step(metrics)
    model.eval()
    return history


def pack_loss(model: nn.Module, pack: Pack) -> Tensor:
    """Sum of the negative log-likelihoods of a pack's targets, in nats; logits are computed only where needed."""
    logits = model(
        input_ids=pack.input_ids,
        position_ids=pack.position_ids,
        logits_to_keep=pack.loss_positions,
        use_cache=False,
    ).logits
    return F.cross_entropy(logits[0].float(), pack.targets, reduction="sum")


def optimizer_step(
    parameters: list[nn.Parameter], factors: list[OSFTLinear], optimizer: torch.optim.Optimizer
) -> float:
    """Clip, project, step, project again, and clear the gradients.

    Returns:
        the gradient's norm before clipping.

    Raises:
        FloatingPointError: when the gradient is not a finite number; nothing was changed then.
    """
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM))
    if not math.isfinite(norm):
        raise FloatingPointError(f"the gradient's norm is {norm}")
    for layer in factors:
        layer.project_gradients()
    optimizer.step()
    for layer in factors:
        layer.project_factors()
    optimizer.zero_grad(set_to_none=True)
    return norm
