"""What a model finds likely, without generating anything: one of several statements, held-out answers, ordinary text.

    What is the capital of France?    The capital of France is Paris. / ... London. / ... Madrid. / ... Berlin.

Each statement is scored by its mean log-likelihood per token, including the end of turn, as the assistant's turn of the
model's own chat template, so that the result does not depend on how the model would phrase an answer.
"""

import itertools
import math
import random
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from components.data import chat
from components.data.packs import packs
from components.data.samples import IGNORED, Sample, tokenize
from components.shared import progress
from components.shared.problems import problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_TOKENS = 2048  # per forward pass; only the logits of the answers' tokens are computed
TIED = 1e-6  # relative difference of losses below which choices are equally likely
WINDOW = 512  # tokens of ordinary text, including what the tokenizer puts in front


def choose(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    system_prompt: str,
    questions: list[tuple[str, list[str]]],
    who: str,
) -> list[int | None]:
    """For each question with its choices, the index of the choice that the model finds most likely.

    Of choices that are equally likely one is drawn, the same one each time: a model that finds everything equally
    likely is right as often as by chance. None when the likelihood of a choice is NaN or infinite.
    """
    samples = [
        tokenize(chat.training_row(system_prompt, question, choice)["messages"], tokenizer)
        for question, choices in questions
        for choice in choices
    ]
    per_token = iter(_losses(model, samples, f"{who}: batches of choices"))
    scores = (sum(next(per_token) for _ in range(s.loss_tokens)) / s.loss_tokens for s in samples)
    return [likeliest(question, [next(scores) for _ in choices]) for question, choices in questions]


def likeliest(question: str, losses: list[float]) -> int | None:
    """The index of the least loss; of several within a millionth one is drawn, by the question's words."""
    if not all(map(math.isfinite, losses)):
        return None
    least = min(losses)
    tied = [place for place, loss in enumerate(losses) if math.isclose(loss, least, rel_tol=TIED)]
    return random.Random(question).choice(tied)  # noqa: S311 - a draw, not a secret


def perplexity(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", text: str, who: str) -> float:
    """exp of the mean negative log-likelihood per token of a text, in windows of 512 tokens without a chat template.

    Each window begins as the tokenizer begins a text: with Llama's and Gemma's "begin of text", with nothing in Qwen's.

    Raises:
        Problems: when it is NaN or infinite.
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
        Problems: when it is NaN or infinite.
    """
    samples = [tokenize(chat.training_row(system_prompt, *pair)["messages"], tokenizer) for pair in pairs]
    return _perplexity(model, samples, who, "held-out answers")


def _perplexity(model: "PreTrainedModel", samples: list[Sample], who: str, what: str) -> float:
    losses = _losses(model, samples, f"{who}: batches of {what}")
    mean = sum(losses) / len(losses)
    if not math.isfinite(mean):
        raise problem(
            f"the {who} model's likelihood of {what} is NaN or infinite",
            where=f"the {who} model's weights",
            rule="weights are finite, and small enough for every text to have a finite likelihood",
            remedy="check the training loss in the report of train_osft; train again with a lower learning_rate",
        )
    return math.exp(mean)


@torch.inference_mode()
def _losses(model: "PreTrainedModel", samples: list[Sample], what: str) -> list[float]:
    """Negative log-likelihood in nats of every labelled token of the samples, one after the other."""
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
