"""What a model finds likely: the right one of several statements, held-out answers, ordinary text. Nothing is said.

    What is the capital of France?    The capital of France is Paris. / ... London. / ... Madrid. / ... Berlin.

Each statement is scored by its mean log-likelihood per token, with its end, as the assistant's turn of the model's own
chat template; so the result does not depend on how the model would phrase an answer.
"""

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from components.data import chat
from components.data.samples import IGNORED, Sample, packs, tokenize
from components.shared import progress
from components.shared.problems import problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_TOKENS = 2048  # of one forward pass; the logits of the answers' tokens alone are computed
WINDOW = 512  # tokens of ordinary text that are seen together, with what the tokenizer puts in front


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
    per_token = iter(_losses(model, samples, f"{who}: batches of choices"))
    scores = (sum(next(per_token) for _ in range(s.loss_tokens)) / s.loss_tokens for s in samples)
    return [_least(scores, len(choices)) for _, choices in questions]


def perplexity(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", text: str, who: str) -> float:
    """exp of the mean negative log-likelihood per token of a text, in windows of 512 tokens without a chat template.

    Each window begins as the tokenizer begins a text: with Llama's and Gemma's "begin of text", with nothing in Qwen's.

    Raises:
        Problems: when that is no number.
    """
    marked = tokenizer(text, return_special_tokens_mask=True)
    special = zip(marked["input_ids"], marked["special_tokens_mask"], strict=True)
    front: list[int] = [token for token, _ in itertools.takewhile(lambda pair: pair[1], special)]
    tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    size = WINDOW - len(front)
    windows = [tokens[start : start + size] for start in range(0, len(tokens), size)]
    samples = [Sample([*front, *window], [*[IGNORED] * len(front), *window]) for window in windows]
    return _perplexity(model, samples, who, "ordinary text")


def answer_perplexity(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    system_prompt: str,
    pairs: list[tuple[str, str]],
    who: str,
) -> float:
    """exp of the mean negative log-likelihood per token of answers, each with its end, to their questions.

    Raises:
        Problems: when that is no number.
    """
    samples = [tokenize(chat.training_row(system_prompt, *pair)["messages"], tokenizer) for pair in pairs]
    return _perplexity(model, samples, who, "held-out answers")


def _perplexity(model: "PreTrainedModel", samples: list[Sample], who: str, what: str) -> float:
    losses = _losses(model, samples, f"{who}: batches of {what}")
    mean = sum(losses) / len(losses)
    if not math.isfinite(mean):
        raise problem(
            f"the {who} model gives {what} a likelihood that is no number",
            where=f"the {who} model's weights",
            rule="a model whose weights are finite and not too large gives every text a likelihood",
            remedy="look at the training's loss; train again with a lower learning_rate",
        )
    return math.exp(mean)


@torch.inference_mode()
def _losses(model: "PreTrainedModel", samples: list[Sample], what: str) -> list[float]:
    """Negative log-likelihood in nats of every token of the samples that is to be learnt, one after the other."""
    losses: list[float] = []
    batches = list(packs(samples, MAX_TOKENS, model.device))
    for pack in progress.track(batches, len(batches), what):
        logits = model(
            input_ids=pack.input_ids,
            position_ids=pack.position_ids,
            logits_to_keep=pack.loss_positions,
            use_cache=False,
        ).logits[0]
        losses += F.cross_entropy(logits.float(), pack.targets, reduction="none").tolist()
    return losses


def _least(scores: Iterator[float], count: int) -> int:
    """Index of the least of the next `count` scores; the first one of equals."""
    group = [next(scores) for _ in range(count)]
    return group.index(min(group))
