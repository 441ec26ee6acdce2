"""Answers from a model: its own chat template, the training's system prompt, greedy decoding, in batches."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from components.data import chat
from components.data.samples import prompt_tokens, render
from components.evaluate.kept import Kept
from components.models.stops import stop_tokens
from components.shared import progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_SIZE = 64


@dataclasses.dataclass(frozen=True)
class Answer:
    text: str
    cut: bool
    """Cut off at the token limit."""


def load(folder: Path) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """A model ready to answer greedily: on the GPU in its files' number format, on the CPU in float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    on_gpu = torch.cuda.is_available()
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype="auto" if on_gpu else torch.float32,
        device_map="cuda" if on_gpu else "cpu",
        trust_remote_code=False,
    )
    # Many models come with repetition penalties and the like, which change greedy decoding as well. `generate` falls
    # back on these settings, so they are removed here.
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=stop_tokens(folder, tokenizer), pad_token_id=tokenizer.pad_token_id
    )
    return model.eval(), tokenizer


@torch.inference_mode()
def answer(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    system_prompt: str,
    questions: list[str],
    max_new_tokens: int,
    who: str,
    kept: Kept,
    key: str,
) -> list[Answer]:
    """A model's answers in the order of the questions.

    Args:
        who: names the model in the log.
        kept: answers of an earlier attempt, and what takes these as they come.
        key: names all that the answers depend on beside prompt and questions: the model's files.
    """
    prompts = [
        render(chat.prompt(system_prompt, question), tokenizer, add_generation_prompt=True) for question in questions
    ]
    # Prompts of similar length go together: a batch is padded to its longest one. What is kept is kept by batches, so
    # that a later attempt has the same ones: the rounding of an answer depends on its neighbours.
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    batches = [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]
    answers: dict[int, Answer] = {}
    ends = set(model.generation_config.eos_token_id)
    for batch in progress.track(batches, math.ceil(len(prompts) / BATCH_SIZE), f"{who}: batches of answers"):
        texts = [prompts[index] for index in batch]
        found = kept.get(key, max_new_tokens, texts)
        if found is None:
            asked = [prompt_tokens(chat.prompt(system_prompt, questions[index]), tokenizer) for index in batch]
            found = _generate(model, tokenizer, asked, max_new_tokens, ends)
            kept.put(found, key, max_new_tokens, texts)
        answers |= {index: Answer(*one) for index, one in zip(batch, found, strict=True)}
    return [answers[index] for index in range(len(prompts))]


def _generate(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", prompts: list[list[int]], most: int, ends: set[int]
) -> list[tuple[str, bool]]:
    """What follows each prompt, and whether it was cut."""
    inputs = tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(model.device)
    output = model.generate(**inputs, max_new_tokens=most)  # type: ignore[operator]
    generated = output[:, inputs["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(generated, skip_special_tokens=True)
    return [(text.strip(), ends.isdisjoint(tokens)) for tokens, text in zip(generated.tolist(), texts, strict=True)]
