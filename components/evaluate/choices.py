"""Multiple choice by likelihood: which of the given statements does a model find most likely after the question?

    What is the capital of France?    The capital of France is Paris. / ... London. / ... Madrid. / ... Berlin.

Each is scored by the mean log-likelihood per token of the statement and its end, as the assistant's turn of the model's
own chat template. Nothing is generated, so the result does not depend on how the model would phrase an answer.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from components import chat, progress
from components.train_osft.samples import packs, tokenize

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_TOKENS = 2048  # of one forward pass; the logits of the answers' tokens alone are computed


@torch.inference_mode()
def choose(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    system_prompt: str,
    questions: list[tuple[str, list[str]]],
    who: str,
) -> list[int]:
    """For each question with its choices the index of the choice that the model finds most likely."""
    samples = [
        tokenize(chat.training_row(system_prompt, question, choice)["messages"], tokenizer)
        for question, choices in questions
        for choice in choices
    ]
    losses: list[float] = []
    batches = list(packs(samples, MAX_TOKENS, model.device))
    for pack in progress.track(batches, len(batches), f"{who}: batches of choices"):
        logits = model(
            input_ids=pack.input_ids,
            position_ids=pack.position_ids,
            logits_to_keep=pack.loss_positions,
            use_cache=False,
        ).logits[0]
        losses += F.cross_entropy(logits.float(), pack.targets, reduction="none").tolist()
    per_token = iter(losses)
    scores = (sum(next(per_token) for _ in range(s.loss_tokens)) / s.loss_tokens for s in samples)
    return [_least(scores, len(choices)) for _, choices in questions]


def _least(scores: Iterator[float], count: int) -> int:
    """Index of the least of the next `count` scores; the first one of equals."""
    group = [next(scores) for _ in range(count)]
    return group.index(min(group))
