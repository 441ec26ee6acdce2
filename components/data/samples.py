"""Chat rows to tokens: what goes into the model and which tokens carry the loss.

Only the assistant's answers are trained on, each together with the end-of-sequence token after it.

A tokenizer reads "<|im_end|>" in a text as the token that ends a turn. Where the template writes it, that is meant; in
the words of a row, a question or a prompt it is not: there it becomes tokens of its letters.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from components.data import chat
from components.shared.problems import Checks, Problem, Problems, list_some, problem, quote

if TYPE_CHECKING:
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
    end: tuple[int, ...] = ()
    """The tokens after the last answer that are trained on: they end it."""

    @property
    def loss_tokens(self) -> int:
        return sum(label != IGNORED for label in self.labels[1:])


def tokenize(messages: list[chat.Message], tokenizer: "PreTrainedTokenizerBase", unmask: bool = False) -> Sample:
    """Tokens of a conversation by the model's own chat template, and its labels.

    Args:
        messages: a checked chat row's messages.
        unmask: also train on the user's turns (`training_hub`'s unmask_messages).

    Raises:
        Problems: when the chat template does not render the conversation as it is.
    """
    text, spans = _render_spans(messages, tokenizer, {"assistant", "user"} if unmask else {"assistant"})
    tokens, offsets = _encode(text, messages, tokenizer)
    trained: set[int] = set()  # places of tokens
    end = 0
    for role, start, stop in spans:
        trained.update(index for index, (first, last) in enumerate(offsets) if first < stop and last > start)
        if role == "assistant":
            after = max(trained, default=-1) + 1
            blank = [not text[first:last].strip() for first, last in offsets[after:]]
            end = _end_of_turn(tokens[after:], blank, tokenizer)
            trained.update(range(after, after + end))
    labels = [token if index in trained else IGNORED for index, token in enumerate(tokens)]
    return Sample(tokens, labels, end=tuple(tokens[after : after + end]))


def prompt_tokens(messages: list[chat.Message], tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Tokens of what a model is asked with, up to where its answer begins.

    Raises:
        Problems: when the chat template refuses it.
    """
    text = render(messages, tokenizer, add_generation_prompt=True)
    return _encode(text, messages, tokenizer, add_generation_prompt=True)[0]


def control_tokens(messages: list[chat.Message], tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """The tokenizer's control tokens that stand in the words of messages, each once."""
    found = (_control_pattern(tokenizer).findall(message["content"]) for message in messages)
    return list(dict.fromkeys(itertools.chain.from_iterable(found)))


def tokenize_rows(
    rows: Iterable[Any],
    tokenizer: "PreTrainedTokenizerBase",
    max_seq_len: int,
    where: str,
    unmask: bool = False,
    drop_control_tokens: bool = False,
) -> Iterator[Sample]:
    """Tokenize all rows, one at a time.

    Args:
        drop_control_tokens: leave out rows with control tokens in their words.

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
        if drop_control_tokens and control_tokens(messages, tokenizer):
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
    except Exception as error:  # a template is a stranger's program: it may raise anything
        raise _template_problem(f"the model's chat template refuses the conversation: {error!s:.300}") from None
    assert isinstance(text, str)
    return text


@functools.lru_cache(maxsize=1)
def _control_pattern(tokenizer: "PreTrainedTokenizerBase") -> re.Pattern[str]:
    names = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    ordered = sorted(filter(str.strip, names), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or r"(?!)")


def _encode(
    text: str,
    messages: list[chat.Message],
    tokenizer: "PreTrainedTokenizerBase",
    add_generation_prompt: bool = False,
) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokens of a rendered conversation, and their places in the text."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    tokens, offsets = encoded["input_ids"], encoded["offset_mapping"]
    if not control_tokens(messages, tokenizer):
        return tokens, offsets
    spans = _find_messages(text, messages, tokenizer, set(chat.ROLES), add_generation_prompt)
    control = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    found: list[tuple[int, tuple[int, int]]] = []
    for token, (first, last) in zip(tokens, offsets, strict=True):
        if token in control and any(start < last and first < end for _, start, end in spans):
            letters = tokenizer(text[first:last], add_special_tokens=False, split_special_tokens=True)["input_ids"]
            found += [(letter, (first, last)) for letter in letters]
        else:
            found.append((token, (first, last)))
    return [token for token, _ in found], [place for _, place in found]


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
    spans = _find_messages(text, messages, tokenizer, roles)
    _, start, _ = spans[-1]
    if between := text[len(prompt) : start].strip():
        raise _template_problem(f"the model's chat template puts {quote(between)} between the prompt and the answer")
    return text, spans


def _find_messages(
    text: str,
    messages: list[chat.Message],
    tokenizer: "PreTrainedTokenizerBase",
    roles: set[str],
    add_generation_prompt: bool = False,
) -> list[tuple[str, int, int]]:
    """The characters [start, end) of each message of these roles in the rendered conversation, with its role."""
    foreign = next(chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in text)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] in roles:
            changed = [*messages[:index], {**message, "content": foreign}, *messages[index + 1 :]]
            other = render(changed, tokenizer, add_generation_prompt)
            spans.append((message["role"], *_find_words(text, other, message["content"].strip(), foreign)))
    return spans


def _find_words(text: str, other: str, words: str, foreign: str) -> tuple[int, int]:
    """Where a message's words are in a text: the part [start, end) in whose place another text has `foreign`.

    A template may trim them, and may leave out thinking in front of them, as Qwen3's does in all turns but the last.
    """
    start = _common_length(text, other)
    end = len(text) - _common_length(text[start:][::-1], other[start:][::-1])
    shown = text[start:end].strip()
    if not shown or not words.endswith(shown) or other[start : len(other) - len(text) + end] != foreign:
        raise _template_problem("the model's chat template leaves out or changes words of a row")
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
