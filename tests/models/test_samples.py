"""Tokens and labels: only answers are learnt, and packed samples do not see each other."""

from pathlib import Path

import pytest
import torch
from instructlab.training.data_process import configure_tokenizer, unmask_sample
from transformers import AutoModelForCausalLM, AutoTokenizer

from components import chat
from components.problems import Problems
from components.train_osft.samples import IGNORED, packs, tokenize, tokenize_rows
from tests.tiny_model import TEMPLATES, write_tiny_model, write_tokenizer

CONVERSATIONS = [
    chat.training_row("Know the rules.", "What is the colour?", "It is crimson.")["messages"],
    chat.training_row("", "Who answers?", "assistant")["messages"],
    chat.training_row("system", "user", "user")["messages"],
    chat.training_row("s", "Two lines?\nYes.", "One,\n\ntwo – «drei».")["messages"],
    [
        *chat.training_row("s", "First?", "a")["messages"],
        {"role": "user", "content": "Second?"},
        {"role": "assistant", "content": "The heron."},
    ],
]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("messages", CONVERSATIONS, ids=lambda messages: messages[-1]["content"][:10])
@pytest.mark.parametrize("unmask", [False, True])
def test_tokens_and_labels_are_those_of_the_stock_backend(
    tmp_path: Path, template: str, messages: list[chat.Message], unmask: bool
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(write_tiny_model(tmp_path, template))
    stock = unmask_sample({"messages": messages, "unmask": unmask}, configure_tokenizer(str(tmp_path)))

    sample = tokenize(messages, tokenizer, unmask)

    assert sample.tokens == stock["input_ids"]
    assert sample.labels == stock["labels"]


def test_only_the_answer_and_its_end_are_learnt(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path)

    sample = tokenize(CONVERSATIONS[0], tokenizer)

    learnt = [token for token, label in zip(sample.tokens, sample.labels, strict=True) if label != IGNORED]
    assert tokenizer.decode(learnt) == "It is crimson.<|im_end|>"


def test_packed_samples_do_not_see_each_other(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    samples = [tokenize(messages, tokenizer) for messages in CONVERSATIONS]

    (pack,) = packs(samples, max_tokens=10_000)
    with torch.no_grad():
        packed = model(input_ids=pack.input_ids, position_ids=pack.position_ids, use_cache=False).logits[0]
        alone = torch.cat([model(input_ids=torch.tensor([s.tokens])).logits[0] for s in samples])

    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)
    targets = [label for sample in samples for label in sample.labels[1:] if label != IGNORED]
    assert pack.targets.tolist() == targets
    assert pack.input_ids[0, pack.loss_positions + 1].tolist() == targets


def test_packs_hold_whole_samples_up_to_the_limit(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path)
    samples = [tokenize(messages, tokenizer) for messages in CONVERSATIONS]
    longest = max(len(sample.tokens) for sample in samples)

    made = list(packs(samples, max_tokens=longest))

    assert len(made) > 1
    assert all(pack.input_ids.shape[1] <= longest for pack in made)
    assert sum(pack.input_ids.shape[1] for pack in made) == sum(len(sample.tokens) for sample in samples)


def test_every_sample_that_is_too_long_is_counted_and_named(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path)
    rows = [chat.training_row("s", f"Question {n}?", "word " * n) for n in (1, 200, 2, 300)]

    with pytest.raises(Problems) as caught:
        tokenize_rows(rows, tokenizer, max_seq_len=100, where="data.jsonl")

    text = str(caught.value)
    assert "2 of 4 samples are longer than max_seq_len = 100" in text
    assert "row 2" in text
    assert "row 4" in text
    assert "Question 300?" in text


def test_a_row_that_is_no_chat_row_is_named(tmp_path: Path) -> None:
    with pytest.raises(Problems, match=r"row 1 is no chat row: .*\"messages\""):
        tokenize_rows([{"prompt": "x"}], write_tokenizer(tmp_path), max_seq_len=100, where="data.jsonl")
