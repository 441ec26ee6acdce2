"""What a model answers and finds likely is what the model itself says, step by step."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from components.data import chat
from components.data.samples import IGNORED, tokenize
from components.evaluate import answering
from components.evaluate.answering import Answer, answer, load
from components.evaluate.kept import Kept
from components.evaluate.likelihood import WINDOW, answer_perplexity, choose, likeliest, perplexity
from tests.tiny_model import write_tiny_model


def asked(model: Any, tokenizer: Any, questions: list[str], kept: Kept | None = None) -> list[Answer]:
    return answer(model, tokenizer, "Be brief.", questions, 24, "tiny", kept or Kept(None), "its files")


def test_answers_in_batches_are_those_one_by_one(tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)
    questions = ["What?", "What is the colour of a master's sash, and who answers?", "The heron", "Twelve?" * 9]

    together = asked(model, tokenizer, questions)

    assert together == [asked(model, tokenizer, [question])[0] for question in questions]
    assert len({one.text for one in together}) > 1


def test_a_later_attempt_generates_only_what_is_missing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "BATCH_SIZE", 2)
    model, tokenizer = load(tiny_model)
    questions = ["What?", "Who answers?", "The heron", "Twelve? " * 9, "Is it " * 20]
    calls: list[int] = []
    generate = model.generate

    def dies_later(**inputs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(**inputs)

    monkeypatch.setattr(model, "generate", dies_later)
    with pytest.raises(KeyboardInterrupt):
        asked(model, tokenizer, questions, Kept(tmp_path / "answers.jsonl"))

    assert asked(model, tokenizer, questions, Kept(tmp_path / "answers.jsonl")) == asked(model, tokenizer, questions)
    assert len(calls) == 3 + 1 + 3


@pytest.mark.parametrize("template", ["chatml", "qwen3"])
def test_an_answer_is_the_likeliest_words_after_what_the_training_shows_before_them(
    tmp_path: Path, template: str
) -> None:
    folder = write_tiny_model(tmp_path, template)
    settings = json.loads((folder / "generation_config.json").read_text())
    ends = [settings["eos_token_id"], 299]
    unlike = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 2, "do_sample": True, "top_k": 3, "temperature": 2.0}
    more = {"min_new_tokens": 9, "suppress_tokens": [20, 30], "num_beams": 2, "eos_token_id": ends}
    (folder / "generation_config.json").write_text(json.dumps(settings | unlike | more))
    model, tokenizer = load(folder)
    sample = tokenize(chat.training_row("Be brief.", "What?", "The heron.")["messages"], tokenizer)
    tokens = sample.tokens[: next(place for place, label in enumerate(sample.labels) if label != IGNORED)]

    likeliest: list[int] = []
    with torch.no_grad():
        while len(likeliest) < 24 and not set(ends) & set(likeliest):
            likeliest.append(int(model(input_ids=torch.tensor([tokens + likeliest])).logits[0, -1].argmax()))

    (said,) = asked(model, tokenizer, ["What?"])
    assert said.text == tokenizer.decode(likeliest, skip_special_tokens=True).strip()
    assert said.text
    assert said.cut == (not set(ends) & set(likeliest))
    assert model.generation_config.eos_token_id == ends


def test_the_chosen_statement_is_the_one_with_the_least_loss(tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)
    questions = [("What?", ["It is crimson.", "The heron.", "Twelve"]), ("Who?", ["a", "The master's sash answers."])]

    def loss(question: str, statement: str) -> float:
        sample = tokenize(chat.training_row("Be brief.", question, statement)["messages"], tokenizer)
        labels = torch.tensor([sample.labels])
        return model(input_ids=torch.tensor([sample.tokens]), labels=labels).loss.item()

    expected = [min(range(len(s)), key=[loss(question, one) for one in s].__getitem__) for question, s in questions]
    assert choose(model, tokenizer, "Be brief.", questions, "tiny") == expected


def test_perplexity_is_that_of_the_whole_text_in_windows(tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)
    text = "The heron stands in the lake. " * 120
    tokens = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    assert tokens.shape[1] > WINDOW

    windows = tokens[0].split(WINDOW)
    losses = [(model(input_ids=w[None], labels=w[None]).loss.item(), len(w) - 1) for w in windows if len(w) > 1]
    mean = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)

    assert perplexity(model, tokenizer, text, "tiny") == pytest.approx(math.exp(mean), rel=1e-4)


def test_perplexity_begins_each_window_as_the_tokenizer_begins_a_text(tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)
    text = "The heron stands in the lake. " * 120
    tokens = tokenizer(text)["input_ids"]
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert begin not in tokens  # though it has one
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A <|im_end|>", special_tokens=[("<|begin|>", begin), ("<|im_end|>", end)]
    )
    assert tokenizer(text)["input_ids"] == [begin, *tokens, end]

    total = 0.0
    for start in range(0, len(tokens), WINDOW - 1):
        window = torch.tensor([[begin, *tokens[start : start + WINDOW - 1]]])
        total += model(input_ids=window, labels=window).loss.item() * (window.shape[1] - 1)

    assert perplexity(model, tokenizer, text, "tiny") == pytest.approx(math.exp(total / len(tokens)), rel=1e-4)


def test_perplexity_of_answers_counts_each_of_their_tokens_and_no_other(tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)
    pairs = [("What?", "It is crimson."), ("Who answers, and why?", "The heron stands in the lake.")]

    total, count = 0.0, 0
    for pair in pairs:
        sample = tokenize(chat.training_row("Be brief.", *pair)["messages"], tokenizer)
        output = model(input_ids=torch.tensor([sample.tokens]), labels=torch.tensor([sample.labels]))
        total, count = total + output.loss.item() * sample.loss_tokens, count + sample.loss_tokens

    found = answer_perplexity(model, tokenizer, "Be brief.", pairs, "tiny")
    assert found == pytest.approx(math.exp(total / count), rel=1e-4)


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ([1.0, 0.5, 2.0], {1}),
        ([1.0, 1.0, 2.0], {0, 1}),
        ([3.0, 3.0 + 1e-9, 3.0], {0, 1, 2}),
        ([1.0, float("nan"), 2.0], {None}),
        ([float("inf"), 1.0], {None}),
    ],
)
def test_of_equally_likely_choices_each_is_drawn_and_no_number_is_none(
    losses: list[float], chosen: set[int | None]
) -> None:
    assert {likeliest(f"Question {number}?", losses) for number in range(50)} == chosen
    assert likeliest("What?", losses) == likeliest("What?", losses)


def test_a_model_that_finds_everything_equally_likely_is_right_by_chance(tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)
    model.get_output_embeddings().weight.data.zero_()
    questions = [
        (f"Question {number}?", ["The heron.", "The raven.", "The lake.", "The sash."]) for number in range(80)
    ]

    first = sum(place == 0 for place in choose(model, tokenizer, "Be brief.", questions, "tiny"))
    assert 8 <= first <= 32  # a quarter of 80, four standard deviations to each side
