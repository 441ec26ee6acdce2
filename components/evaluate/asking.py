"""What one model answers, chooses and finds likely. Nothing is sampled: a repetition gives the same."""

import dataclasses
from importlib import resources
from pathlib import Path
from typing import Any

from components.evaluate import harness
from components.evaluate.answering import Answer, answer, load
from components.evaluate.kept import Kept, state_of
from components.evaluate.likelihood import answer_perplexity, choose, perplexity
from components.run.evaluation_options import EvaluationOptions
from components.shared import progress
from components.training.rewind import move_between

BRIEFLY = "Answer in at most ten words."  # the base model is asked so as well: is what was learnt only to be brief?


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What every model is asked."""

    system_prompt: str
    questions: list[str]
    """Open-ended ones."""
    choices: list[dict[str, Any]]
    """Multiple-choice ones, as components.data.questions reads them."""
    held_out: list[tuple[str, str]]
    """Questions with the answers whose likelihood is measured."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A model's folder, or a share of the way to it."""

    who: str
    """For the log."""
    folder: Path
    start: Path | None = None
    """Folder of the model that its training started from, for a share of the way."""
    share: float = 1.0
    seed: int = 0
    """Of the noise of rounding, for a share of the way."""

    @property
    def state(self) -> str:
        """A digest of all that its answers depend on."""
        if self.start is None:
            return state_of(self.folder)
        return f"{state_of(self.start)} {state_of(self.folder)} {self.share} {self.seed}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outputs:
    """What one model answered, chose and finds likely."""

    answers: dict[str, Answer]
    """By question."""
    brief: dict[str, Answer]
    """Asked to be brief; empty for all but the base model."""
    prompted: list[str]
    """The statements chosen with the training's system prompt; empty where a likelihood is NaN or infinite."""
    unprompted: list[str]
    perplexity: float
    held_out_perplexity: float
    """0 when no rows were held out."""
    scores: dict[tuple[str, str], float]


def ask(
    model: Model, asked: Asked, further: list[str], in_brief: bool, options: EvaluationOptions, kept: Kept
) -> Outputs:
    """Load a model and ask it.

    Args:
        further: more open-ended questions, which this model alone is asked.
        in_brief: whether the open-ended questions are asked for a brief answer, too.
        kept: answers of an earlier attempt, and what takes these as they come.
    """
    who, state = model.who, model.state
    questions = list(dict.fromkeys([*asked.questions, *further]))
    progress.log(f"{who}: {len(questions)} open-ended and {len(asked.choices)} multiple-choice questions")
    network, tokenizer = load(model.folder)
    if model.start is not None:
        move_between(network, model.start, model.folder, model.share, model.seed)
    statements = [(entry["question"], entry["choices"]) for entry in asked.choices]

    def chosen(prompt: str, name: str) -> list[str]:
        places = choose(network, tokenizer, prompt, statements, name)
        return ["" if place is None else each[place] for (_, each), place in zip(statements, places, strict=True)]

    def answers(ending: str, name: str) -> dict[str, Answer]:
        texts = [question + ending for question in questions]
        most = options.max_answer_tokens
        found = answer(network, tokenizer, asked.system_prompt, texts, most, name, kept, state)
        return dict(zip(questions, found, strict=True))

    held_out = asked.held_out
    return Outputs(
        answers=answers("", who),
        brief=answers(f"\n{BRIEFLY}", f"{who}, in brief") if in_brief else {},
        prompted=chosen(asked.system_prompt, who),
        unprompted=chosen("", f"{who}, no system prompt"),
        perplexity=perplexity(network, tokenizer, general_text(), who),
        held_out_perplexity=answer_perplexity(network, tokenizer, asked.system_prompt, held_out, who)
        if held_out
        else 0.0,
        scores=harness.scores(network, tokenizer, options.tasks, who),
    )


def general_text() -> str:
    """The ordinary prose whose perplexity is measured."""
    return resources.files("components.evaluate").joinpath("general_text.txt").read_text(encoding="utf-8")
