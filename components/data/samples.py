"""Chat rows to tokens: what goes into the model and which tokens carry the loss; and micro-batches of whole samples.

Only the assistant's answers are trained on, each together with the end-of-sequence token after it. Samples of a
micro-batch are packed one after the other into a single sequence, so that no padding is computed; attention does not
cross samples, because transformers derives a block-diagonal mask from position ids that start again at 0.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import jinja2

from components.data import chat
from components.shared.problems import Checks, Problem, Problems, list_some, problem, quote

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # label of a token without a loss, as in torch's cross entropy


@dataclasses.dataclass(frozen=True)
class Sample:
    """One tokenized chat row."""

    tokens: list[int]
    labels: list[int]
    """As `tokens`; IGNORED for tokens without a loss."""
    row: int = 0
    """Its number in the training data, from 1."""

    @property
    def loss_tokens(self) -> int:
        return sum(label != IGNORED for label in self.labels[1:])


@dataclasses.dataclass(frozen=True)
class Pack:
    """Whole samples in one sequence of T tokens, of which n carry a loss."""

    input_ids: "Tensor"
    """[1, T]"""
    position_ids: "Tensor"
    """[1, T], from 0 in each sample."""
    loss_positions: "Tensor"
    """[n]: the positions whose next token carries a loss."""
    targets: "Tensor"
    """[n]: those tokens."""
    starts: "Tensor"
    """[samples + 1]: where each sample begins, and the end of the last; int32."""
    longest: int
    """Tokens of the longest sample."""

    def limits(self) -> dict[str, Any]:
        """Where samples begin and end, under the names that transformers passes on to attention functions."""
        return {
            "cu_seq_lens_q": self.starts,
            "cu_seq_lens_k": self.starts,
            "max_length_q": self.longest,
            "max_length_k": self.longest,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packing:
    """How full the packs of a training are, over all its epochs. Their tokens are the samples' own: none is padding."""

    packs: int
    tokens: int
    """Computed in all packs together."""
    max_tokens: int
    """The most that a pack may hold."""
    padding_avoided: int
    """Tokens that it would take to bring each sample of a pack to the length of the pack's longest."""

    @property
    def fill(self) -> float:
        """Share of the tokens that the packs could hold."""
        return self.tokens / (self.packs * self.max_tokens)


def tokenize(messages: list[chat.Message], tokenizer: "PreTrainedTokenizerBase", unmask: bool = False) -> Sample:
    """Tokens of a conversation by the model's own chat template, and its labels.

    Args:
        messages: a checked chat row's messages.
        unmask: also train on the user's turns (`training_hub`'s unmask_messages).

    Raises:
        Problems: when the chat template does not render the conversation as it is.
    """
    text, spans = _render_spans(messages, tokenizer, {"assistant", "user"} if unmask else {"assistant"})
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    tokens: list[int] = encoded["input_ids"]
    offsets: list[tuple[int, int]] = encoded["offset_mapping"]
    trained: set[int] = set()  # places of tokens
    for role, start, end in spans:
        trained.update(index for index, (first, last) in enumerate(offsets) if first < end and last > start)
        if role == "assistant":
            after = max(trained, default=-1) + 1
            blank = [not text[first:last].strip() for first, last in offsets[after:]]
            trained.update(range(after, after + _end_of_turn(tokens[after:], blank, tokenizer)))
    return Sample(tokens, [token if index in trained else IGNORED for index, token in enumerate(tokens)])


def tokenize_rows(
    rows: Iterable[Any], tokenizer: "PreTrainedTokenizerBase", max_seq_len: int, where: str, unmask: bool = False
) -> Iterator[Sample]:
    """Tokenize all rows, one at a time.

    Raises:
        Problems: after the last row, naming every row that is not a chat row, that the chat template does not render as
            it is, or that is longer than `max_seq_len` tokens.
    """
    checks = Checks()
    count = 0
    too_long = []
    unrendered: dict[Problem, list[int]] = {}
    for number, row in enumerate(rows, 1):
        try:
            messages = chat.check_row(row)
        except ValueError as error:
            checks.add(
                f"row {number} is not a chat row: {error}",
                where=f"{where}, row {number}",
                rule='a row is {"messages": [{"role": ..., "content": ...}, ...]} and ends with the assistant',
                remedy="run the pipeline's format_chat step, which writes such rows",
            )
            continue
        try:
            sample = tokenize(messages, tokenizer, unmask or bool(row.get("unmask", False)))
        except Problems as error:
            for found in error.problems:
                unrendered.setdefault(found, []).append(number)
            continue
        count += 1
        if len(sample.tokens) > max_seq_len:
            too_long.append((number, len(sample.tokens), chat.question_of(row)))
        yield dataclasses.replace(sample, row=number)
    for found, numbers in unrendered.items():
        checks.add(
            found.what, where=f"{where}, row {list_some(numbers)}; {found.where}", rule=found.rule, remedy=found.remedy
        )
    if too_long:
        longest = max(length for _, length, _ in too_long)
        named = list_some(f"row {number} ({length} tokens: {quote(text)})" for number, length, text in too_long)
        checks.add(
            f"{len(too_long)} of {count} samples are longer than max_seq_len = {max_seq_len} tokens: {named}",
            where=where,
            rule="a sample is trained on whole, and none is dropped",
            remedy=f"set max_seq_len to {longest} or more, or shorten those answers",
        )
    checks.raise_if_any()


def render(
    messages: list[chat.Message], tokenizer: "PreTrainedTokenizerBase", add_generation_prompt: bool = False
) -> str:
    """A conversation as the model sees it, in training and when it is asked.

    Raises:
        Problems: when the chat template refuses it.
    """
    try:
        text = tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            enable_thinking=False,  # as in training; templates without such a switch ignore it
        )
    except jinja2.TemplateError as error:
        raise _template_problem(f"the model's chat template refuses the conversation: {error}") from error
    assert isinstance(text, str)
    return text


def packs(samples: list[Sample], max_tokens: int, device: "torch.device | str" = "cpu") -> Iterator[Pack]:
    """The samples of one optimizer step in their order, packed as they come into at most `max_tokens` tokens each."""
    for group in _groups(samples, max_tokens):
        yield _pack(group, device)


def packing(batches: Iterable[list[Sample]], max_tokens: int) -> Packing:
    """How full the packs are of a training whose optimizer steps learn from these samples."""
    lengths = [[len(sample.tokens) for sample in group] for batch in batches for group in _groups(batch, max_tokens)]
    tokens = sum(map(sum, lengths))
    return Packing(
        packs=len(lengths),
        tokens=tokens,
        max_tokens=max_tokens,
        padding_avoided=sum(max(group) * len(group) for group in lengths) - tokens,
    )


def _groups(samples: list[Sample], max_tokens: int) -> Iterator[list[Sample]]:
    group: list[Sample] = []
    for sample in samples:
        if group and sum(len(member.tokens) for member in group) + len(sample.tokens) > max_tokens:
            yield group
            group = []
        group.append(sample)
    if group:
        yield group


def _pack(samples: list[Sample], device: "torch.device | str") -> Pack:
    import torch  # plan_training counts tokens where there is none

    tokens = [token for sample in samples for token in sample.tokens]
    positions = [position for sample in samples for position in range(len(sample.tokens))]
    # The token at p is predicted at p - 1; the first of a sample is predicted by nothing.
    labels = [label for sample in samples for label in [IGNORED, *sample.labels[1:]]]
    loss_positions = [place - 1 for place, label in enumerate(labels) if label != IGNORED]
    targets = [label for label in labels if label != IGNORED]
    lengths = [len(sample.tokens) for sample in samples]

    def tensor(values: list[Any], dtype: torch.dtype = torch.long) -> "Tensor":
        made = torch.tensor(values, dtype=dtype)
        if torch.device(device).type == "cuda":
            made = made.pin_memory()  # or copying would wait for all that the GPU has to do
        return made.to(device, non_blocking=True)

    return Pack(
        input_ids=tensor([tokens]),
        position_ids=tensor([positions]),
        loss_positions=tensor(loss_positions),
        targets=tensor(targets),
        starts=tensor([0, *itertools.accumulate(lengths)], torch.int32),
        longest=max(lengths),
    )


def _render_spans(
    messages: list[chat.Message], tokenizer: "PreTrainedTokenizerBase", roles: set[str]
) -> tuple[str, list[tuple[str, int, int]]]:
    """The conversation as text, and in it the characters [start, end) of each message of these roles, with its role."""
    text = render(messages, tokenizer)
    prompt = render(messages[:-1], tokenizer, add_generation_prompt=True)
    if not text.startswith(prompt):
        raise _template_problem(
            "the model's chat template renders what precedes the answer differently once the answer is there"
        )
    foreign = next(chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in text)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] in roles:
            other = render([*messages[:index], {**message, "content": foreign}, *messages[index + 1 :]], tokenizer)
            spans.append((message["role"], *_find_words(text, other, message["content"].strip(), foreign)))
    _, start, _ = spans[-1]
    if between := text[len(prompt) : start].strip():
        raise _template_problem(f"the model's chat template puts {quote(between)} between the prompt and the answer")
    return text, spans


def _find_words(text: str, other: str, words: str, foreign: str) -> tuple[int, int]:
    """Where a message's words are in a text: the part [start, end) in whose place another text has `foreign`.

    A template may trim them, and may leave out thinking in front of them, as Qwen3's does in all turns but the last.
    """
    start = _common_length(text, other)
    end = len(text) - _common_length(text[start:][::-1], other[start:][::-1])
    shown = text[start:end].strip()
    if not shown or not words.endswith(shown) or other[start : len(other) - len(text) + end] != foreign:
        raise _template_problem("the model's chat template leaves out or changes words to train on")
    return start, end


def _common_length(one: str, other: str) -> int:
    """How many characters two texts begin with together."""
    pairs = zip(one, other, strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _template_problem(what: str) -> Problems:
    return problem(
        what,
        where="chat_template in the model's tokenizer_config.json or chat_template.jinja",
        rule="in training the words of a row stand as they are, after exactly the prompt that the model gets later",
        remedy="change the rows to what the template supports (without system messages: leave system_prompt empty; "
        "thinking is switched off: answers contain none), or change the template, or use another model",
    )


def _end_of_turn(tokens: list[int], blank: list[bool], tokenizer: "PreTrainedTokenizerBase") -> int:
    """How many of the tokens after an answer end it.

    All up to the end of sequence, where nothing but special tokens stands before it; else the first special token.
    """
    special = _special_tokens(tokenizer)
    first = 0
    for count, (token, is_blank) in enumerate(zip(tokens, blank, strict=True), 1):
        if token == tokenizer.eos_token_id:
            return count
        if token in special and not is_blank:
            first = first or count
        elif not is_blank:
            break
    return first


@functools.lru_cache(maxsize=1)
def _special_tokens(tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    return frozenset(tokenizer.added_tokens_decoder)
