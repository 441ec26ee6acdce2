"""Chat rows to tokens: what goes into the model and which tokens carry the loss; and micro-batches of whole samples.

Only the assistant's answers are learnt, each together with the end-of-sequence token after it. Samples of a micro-batch
are packed one after the other into a single sequence, so that no padding is computed; attention does not cross samples,
because transformers derives a block-diagonal mask from position ids that start again at 0.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from components import chat
from components.problems import Checks, list_some, quote

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # label of a token without a loss, as in torch's cross entropy


@dataclasses.dataclass(frozen=True)
class Sample:
    """One tokenized chat row."""

    tokens: list[int]
    labels: list[int]
    """As `tokens`; IGNORED where nothing is to be learnt."""

    @property
    def loss_tokens(self) -> int:
        return sum(label != IGNORED for label in self.labels[1:])


@dataclasses.dataclass(frozen=True)
class Pack:
    """Whole samples in one sequence of T tokens, of which n carry a loss."""

    input_ids: Tensor
    """[1, T]"""
    position_ids: Tensor
    """[1, T], from 0 in each sample."""
    loss_positions: Tensor
    """[n]: the positions whose next token is to be learnt."""
    targets: Tensor
    """[n]: those tokens."""


def tokenize(messages: list[chat.Message], tokenizer: "PreTrainedTokenizerBase", unmask: bool = False) -> Sample:
    """Tokens of a conversation by the model's own chat template, and its labels.

    Args:
        messages: a checked chat row's messages.
        unmask: also learn the user's turns (`training_hub`'s unmask_messages).
    """
    text, spans = _rendered(messages, tokenizer, {"assistant", "user"} if unmask else {"assistant"})
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    tokens: list[int] = encoded["input_ids"]
    labels = [IGNORED] * len(tokens)
    remaining = iter(spans)
    span = next(remaining, None)
    for index, (start, end) in enumerate(encoded["offset_mapping"]):
        while span is not None and start >= span[1]:
            span = next(remaining, None)
        if span is not None and end > span[0]:
            labels[index] = tokens[index]
    return Sample(tokens, labels)


def tokenize_rows(
    rows: Iterable[Any], tokenizer: "PreTrainedTokenizerBase", max_seq_len: int, where: str, unmask: bool = False
) -> list[Sample]:
    """Tokenize all rows.

    Raises:
        Problems: naming every row that is no chat row and every row longer than `max_seq_len` tokens.
    """
    checks = Checks()
    samples = []
    too_long = []
    for number, row in enumerate(rows, 1):
        try:
            messages = chat.check_row(row)
        except ValueError as error:
            checks.add(
                f"row {number} is no chat row: {error}",
                where=f"{where}, row {number}",
                rule='a row is {"messages": [{"role": ..., "content": ...}, ...]} and ends with the assistant',
                remedy="make the file with format_chat",
            )
            continue
        sample = tokenize(messages, tokenizer, unmask or bool(row.get("unmask", False)))
        samples.append(sample)
        if len(sample.tokens) > max_seq_len:
            too_long.append((number, len(sample.tokens), chat.question_of(row)))
    if too_long:
        longest = max(length for _, length, _ in too_long)
        named = list_some(f"row {number} ({length} tokens: {quote(text)})" for number, length, text in too_long)
        checks.add(
            f"{len(too_long)} of {len(samples)} samples are longer than max_seq_len = {max_seq_len} tokens: {named}",
            where=where,
            rule="a sample is learnt whole or not at all, and none is dropped unasked",
            remedy=f"set max_seq_len to {longest} or more, or shorten those answers",
        )
    checks.raise_if_any()
    return samples


def packs(samples: list[Sample], max_tokens: int, device: torch.device | str = "cpu") -> Iterator[Pack]:
    """The samples of one optimizer step in their order, packed as they come into at most `max_tokens` tokens each."""
    group: list[Sample] = []
    for sample in samples:
        if group and sum(len(member.tokens) for member in group) + len(sample.tokens) > max_tokens:
            yield _pack(group, device)
            group = []
        group.append(sample)
    if group:
        yield _pack(group, device)


def _pack(samples: list[Sample], device: torch.device | str) -> Pack:
    tokens = [token for sample in samples for token in sample.tokens]
    positions = [position for sample in samples for position in range(len(sample.tokens))]
    # The token at p is predicted at p - 1; the first of a sample is predicted by nothing.
    labels = [label for sample in samples for label in [IGNORED, *sample.labels[1:]]]
    loss_positions = [place - 1 for place, label in enumerate(labels) if label != IGNORED]
    targets = [label for label in labels if label != IGNORED]
    return Pack(
        input_ids=torch.tensor([tokens], device=device),
        position_ids=torch.tensor([positions], device=device),
        loss_positions=torch.tensor(loss_positions, device=device, dtype=torch.long),
        targets=torch.tensor(targets, device=device, dtype=torch.long),
    )


def _rendered(
    messages: list[chat.Message], tokenizer: "PreTrainedTokenizerBase", learnt: set[str]
) -> tuple[str, list[tuple[int, int]]]:
    """The conversation as text, and the character spans [start, end) in it to learn."""

    def render(count: int, add_generation_prompt: bool) -> str:
        text = tokenizer.apply_chat_template(
            messages[:count], tokenize=False, add_generation_prompt=add_generation_prompt
        )
        assert isinstance(text, str)
        return text

    text = render(len(messages), add_generation_prompt=False)
    end_of_sequence = str(tokenizer.eos_token)
    spans = []
    for count, message in enumerate(messages):
        role = message["role"]
        if role not in learnt:
            continue
        before = render(count, add_generation_prompt=role == "assistant") if count else ""
        assert text.startswith(before), (
            "the chat template renders earlier messages differently once a later one follows"
        )
        content = message["content"] if message["content"] in text else message["content"].strip()
        if role == "assistant":  # what the model will see when it answers ends where the answer begins
            start = text.find(content, len(before))
        else:  # the role's own name stands between; the text is the last thing in its turn
            start = text.rfind(content, len(before), len(render(count + 1, add_generation_prompt=False)))
        assert start >= 0, "the chat template does not show the message's text"
        end = start + len(content)
        if role == "assistant" and text[end:].lstrip().startswith(end_of_sequence):
            end = text.index(end_of_sequence, end) + len(end_of_sequence)
        spans.append((start, end))
    return text, spans
