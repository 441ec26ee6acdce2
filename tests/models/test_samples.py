"""Tokens and labels: only answers carry a loss, and packed samples do not see each other."""

import json
from pathlib import Path

import pytest
import torch
from instructlab.training.data_process import configure_tokenizer, process_messages_into_input_ids, unmask_sample
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from components.data import chat
from components.data.packs import packing, packs
from components.data.samples import IGNORED, Sample, prompt_tokens, render, tokenize, tokenize_rows
from components.shared.problems import Problems
from tests.tables import table
from tests.tiny_model import TEMPLATES, write_tiny_model, write_tokenizer


def conversation(*words: str, system: str = "") -> list[chat.Message]:
    """The words of the user and the assistant in turn."""
    head = [{"role": "system", "content": system}] if system else []
    return [*head, *({"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(words))]


CONVERSATIONS = [
    conversation("What is the colour?", "It is crimson.", system="Know the rules."),
    conversation("Who answers?", "assistant"),
    conversation("user", "user", system="system"),
    conversation("assistant", "model"),
    conversation("Two lines?\nYes.", "One,\n\ntwo – «drei».", system="s"),
    conversation("First?", "a", "Second?", "The heron.", system="s"),
    conversation("a", "a", "a", "a", "a", "a"),
    conversation("Is this the answer?", "Is this the answer?"),
]
LIKE_STOCK = ["chatml", "qwen2.5", "qwen3", "llama3", "granite3"]
SPACED = conversation(" Twice? ", "  Twice.\n")
TWO = conversation("First?", "One.", "Second?", "Two.")
THOUGHT, EMPTY_THOUGHT = "<think>\nHm.\n</think>\n\n", "<think>\n\n</think>\n\n"
# What the stock backend does differently, each time wrongly: template, conversation, and the text to train on.
UNLIKE_STOCK: list[tuple[str, list[chat.Message], list[str]]] = [
    # It does not trim, so that it trains on another text than the model will see.
    ("llama3", SPACED, ["Twice.<|eot_id|>"]),
    # It fails at answers that begin with thinking. What the template does not show is not trained on, nor is an empty
    # thinking that the model is asked with.
    ("qwen3", conversation("Q?", f"{EMPTY_THOUGHT}A."), ["A.<|im_end|>"]),
    ("qwen3", conversation("Q?", f"{THOUGHT}A.", "R?", "B."), ["A.<|im_end|>", "B.<|im_end|>"]),
    # It teaches no end of a turn that is not the tokenizer's end of sequence.
    ("phi3", TWO, ["One.<|end|>", "Two.<|end|>\n<|endoftext|>"]),
    ("gemma", TWO, ["One.<end_of_turn>", "Two.<end_of_turn>"]),
    # It takes the space before an answer for a token of its own, which the template's text does not have.
    ("mistral", conversation("Q?", "assistant"), [" assistant</s>"]),
]


def trained_text(sample: Sample, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What carries a loss, as one text for each unbroken run of tokens."""
    runs: list[list[int]] = [[]]
    for token, label in zip(sample.tokens, sample.labels, strict=True):
        assert label in (IGNORED, token)
        if label == IGNORED:
            runs.append([])
        else:
            runs[-1].append(token)
    return [str(tokenizer.decode(run)) for run in runs if run]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """A model folder with the chat template of that name."""
    folders: dict[str, Path] = {}

    def folder(template: str) -> Path:
        if template not in folders:
            folders[template] = write_tiny_model(tmp_path_factory.mktemp("template"), template)
        return folders[template]

    return folder


@pytest.fixture(scope="module")
def tokenizer_of(folder_of):
    return lambda template: AutoTokenizer.from_pretrained(folder_of(template))


@pytest.mark.parametrize("template", LIKE_STOCK)
@pytest.mark.parametrize("unmask", [False, True])
def test_tokens_and_labels_are_those_of_the_stock_backend(folder_of, template, unmask):
    tokenizer, stock = AutoTokenizer.from_pretrained(folder_of(template)), configure_tokenizer(str(folder_of(template)))

    for messages in CONVERSATIONS:
        expected = unmask_sample({"messages": messages, "unmask": unmask}, stock)
        sample = tokenize(messages, tokenizer, unmask)

        assert sample.tokens == expected["input_ids"]
        assert sample.labels == expected["labels"]
        assert len(trained_text(sample, tokenizer)) == sum(
            message["role"] in (("assistant", "user") if unmask else ("assistant",)) for message in messages
        )


def test_a_file_of_rows_becomes_what_the_stock_backend_makes_of_it(folder_of, tmp_path):
    model = folder_of("llama3")
    rows = [{"messages": messages, "unmask": number % 3 == 0} for number, messages in enumerate(CONVERSATIONS)]
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    process_messages_into_input_ids(str(data), str(tmp_path), 1000, str(model), num_cpu_procs=1)
    lines = (tmp_path / "data.jsonl").read_text().splitlines()

    samples = list(tokenize_rows(rows, AutoTokenizer.from_pretrained(model), 1000, str(data)))

    kept = [sample for sample in samples if len(sample.tokens) >= 20]  # it drops shorter ones
    assert len(kept) > len(rows) / 2
    assert [(sample.tokens, sample.labels) for sample in kept] == [
        (line["input_ids"], line["labels"]) for line in map(json.loads, lines)
    ]
    assert [sample.row for sample in samples] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize(("template", "messages", "expected"), UNLIKE_STOCK)
def test_where_the_stock_backend_is_wrong_exactly_the_assistants_words_and_their_end_are_trained_on(
    folder_of, template, messages, expected
):
    tokenizer = AutoTokenizer.from_pretrained(folder_of(template))

    sample = tokenize(messages, tokenizer)

    assert trained_text(sample, tokenizer) == expected
    assert sample.tokens == tokenizer.apply_chat_template(messages, return_dict=False)
    try:
        stock = unmask_sample({"messages": messages}, configure_tokenizer(str(folder_of(template))))
    except ValueError:
        return
    assert (sample.tokens, sample.labels) != (stock["input_ids"], stock["labels"])


@pytest.mark.parametrize("template", TEMPLATES)
def test_tokens_are_what_the_template_shows_and_begin_with_what_the_model_is_asked(tokenizer_of, template):
    tokenizer = tokenizer_of(template)

    for messages in (SPACED, TWO, conversation("Q?", f"{THOUGHT}A.", "R?", "B.")):
        sample = tokenize(messages, tokenizer)
        prompt = render(messages[:-1], tokenizer, add_generation_prompt=True)
        asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]

        assert sample.tokens == tokenizer.apply_chat_template(messages, return_dict=False)
        assert sample.tokens[: len(asked)] == asked
        labels = sample.labels[len(asked) :]
        answer = next(place for place, label in enumerate(labels) if label != IGNORED)
        assert not tokenizer.decode(
            sample.tokens[len(asked) :][:answer]
        ).strip()  # trained on from where the prompt ends


@pytest.mark.parametrize(
    ("template", "asked"),
    [
        ("qwen3", f"<|im_start|>user\nQ?<|im_end|>\n<|im_start|>assistant\n{EMPTY_THOUGHT}"),
        ("chatml", "<|im_start|>user\nQ?<|im_end|>\n<|im_start|>assistant\n"),  # knows no such switch
        (
            "granite3.2",
            "<|start_of_role|>user<|end_of_role|>Q?<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
        ),
    ],
)
def test_a_model_is_asked_for_no_thinking(tokenizer_of, template, asked):
    prompt = render(conversation("Q?", system="s"), tokenizer_of(template), add_generation_prompt=True)

    assert prompt.endswith(asked)
    assert "Think first" not in prompt


@pytest.mark.parametrize("template", TEMPLATES)
def test_all_turns_but_the_system_message_are_trained_on_when_asked_for(tokenizer_of, template):
    tokenizer = tokenizer_of(template)

    runs = trained_text(tokenize(TWO, tokenizer, unmask=True), tokenizer)

    assert [run.strip() for run in runs[::2]] == ["First?", "Second?"]
    assert [run.strip()[:4] for run in runs[1::2]] == ["One.", "Two."]


FORGETFUL = "{% for m in messages %}{{ m.role }}: {{ m.content[:8] }}<|im_end|>\n{% endfor %}"
SHOUTING = "{% for m in messages %}{{ m.role }}: {{ m.content | upper }}<|im_end|>\n{% endfor %}"
REPEATING = "{% for m in messages %}{{ m.role }}: {{ m.content }}, {{ m.content }}<|im_end|>\n{% endfor %}"
SILENT = "{% for m in messages if m.role != 'assistant' %}{{ m.role }}: {{ m.content }}<|im_end|>\n{% endfor %}"
BROKEN = "{% for m in messages %}{{ m.role.nothing.here }}{% endfor %}"
OTHERWISE_ASKED = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
)
THINKING = (
    TEMPLATES["chatml"]
    .text.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
    .replace("{{ m.content }}", "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}")
)
CHANGED = "leaves out or changes words"
DIFFERENTLY = "renders what precedes the answer differently"


@pytest.mark.parametrize(
    ("template", "text", "system", "said"),
    [
        ("gemma", None, "Be brief.", "refuses the conversation: No system role"),
        ("mistral", None, "Be brief.", DIFFERENTLY),  # the system message would be lost unnoticed
        ("chatml", OTHERWISE_ASKED, "", DIFFERENTLY),
        ("chatml", THINKING, "", "puts '</think>' between the prompt and the answer"),
        ("chatml", FORGETFUL, "", CHANGED),
        ("chatml", SHOUTING, "", CHANGED),
        ("chatml", REPEATING, "", CHANGED),
        ("chatml", SILENT, "", CHANGED),
        ("chatml", BROKEN, "", "refuses the conversation: 'str object' has no attribute 'nothing'"),
    ],
)
def test_a_template_that_does_not_show_the_rows_is_refused_and_the_rows_named(
    tokenizer_of, template, text, system, said
):
    tokenizer = tokenizer_of(template)
    if text is not None:
        tokenizer.chat_template = text
    rows = [{"messages": conversation("Which bird?", "It is the heron.", system=system)}] * 2

    with pytest.raises(Problems, match=said) as caught:
        list(tokenize_rows([{}, *rows], tokenizer, max_seq_len=100, where="data.jsonl"))

    no_row, refused = caught.value.problems
    assert "row 1 is not a chat row" in no_row.what
    assert refused.where.startswith("data.jsonl, row 2, 3; chat_template in ")
    assert "system_prompt" in refused.remedy


# Shows thinking, also an empty one, in all turns.
ALWAYS_SHOWN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% set parts = m.content.split('</think>') %}"
    "{% if m.role == 'assistant' %}<think>\n{{ parts[0].split('<think>')[-1].strip() if parts[1:] }}"
    "\n</think>\n\n{% endif %}{{ parts[-1].strip() }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}"
)


@pytest.mark.parametrize(
    ("text", "messages", "said"),
    [
        (None, conversation("Q?", f"{THOUGHT}A."), DIFFERENTLY),
        (None, conversation("Q?", f"{THOUGHT}A.", "R?", f"{THOUGHT}B."), DIFFERENTLY),
        (ALWAYS_SHOWN, conversation("Q?", f"{THOUGHT}A.", "R?", "B."), CHANGED),
    ],
)
def test_thinking_that_the_model_is_not_asked_for_is_refused(tokenizer_of, text, messages, said):
    tokenizer = tokenizer_of("qwen3")
    tokenizer.chat_template = text or tokenizer.chat_template

    with pytest.raises(Problems, match=said) as caught:
        tokenize(messages, tokenizer)

    assert "thinking is switched off" in caught.value.problems[0].remedy


def sample_of(length: int) -> Sample:
    return Sample(tokens=list(range(length)), labels=[IGNORED, *range(1, length)])


@pytest.mark.parametrize(("lengths", "max_tokens", "expected"), table("samples", "packs"))
def test_packs_hold_whole_samples_in_their_order_without_padding(lengths, max_tokens, expected):
    samples = [sample_of(length) for length in lengths]

    made = list(packs(samples, max_tokens))

    assert [pack.starts.diff().tolist() for pack in made] == expected
    assert [pack.longest for pack in made] == [max(group) for group in expected]
    assert [pack.input_ids[0].tolist() for pack in made] == [
        [n for size in group for n in range(size)] for group in expected
    ]
    assert all(torch.equal(pack.position_ids, pack.input_ids) for pack in made)  # these samples' tokens count from 0


@pytest.mark.parametrize(
    ("batches", "max_tokens", "expected", "fill"),
    [
        ([[3, 4, 5]], 12, {"packs": 1, "tokens": 12, "padding_avoided": 3}, 1.0),
        ([[3, 4], [5]], 16, {"packs": 2, "tokens": 12, "padding_avoided": 1}, 12 / 32),  # a step ends a pack
        ([[5, 5, 3, 3]] * 2, 8, {"packs": 6, "tokens": 32, "padding_avoided": 4}, 32 / 48),
    ],
)
def test_the_report_says_how_full_packs_are_and_what_padding_would_cost(batches, max_tokens, expected, fill):
    samples = [[sample_of(length) for length in batch] for batch in batches]

    report = packing(samples, max_tokens)

    assert vars(report) == expected | {"max_tokens": max_tokens}
    assert report.fill == pytest.approx(fill)
    made = [pack for batch in samples for pack in packs(batch, max_tokens)]
    assert report.tokens == sum(pack.input_ids.numel() for pack in made)
    assert report.packs == len(made)


def test_every_sample_that_is_too_long_is_counted_and_named(tmp_path):
    tokenizer = write_tokenizer(tmp_path)
    rows = [chat.training_row("s", f"Question {n}?", "word " * n) for n in (1, 200, 2, 300)]

    with pytest.raises(Problems) as caught:
        list(tokenize_rows(rows, tokenizer, max_seq_len=100, where="data.jsonl"))

    text = str(caught.value)
    assert "2 of 4 samples are longer than max_seq_len = 100" in text
    assert "row 2" in text
    assert "row 4" in text
    assert "Question 300?" in text


@pytest.mark.parametrize("template", ["chatml", "qwen2.5", "granite3"])
def test_control_tokens_in_words_are_tokens_of_their_letters(tokenizer_of, template):
    tokenizer = tokenizer_of(template)
    words = f"It ends{tokenizer.eos_token} or {tokenizer.eos_token}\nbegins"
    for messages in CONVERSATIONS[:3]:
        plain = tokenize(messages, tokenizer)
        said = [{**one, "content": f"{one['content']}{words}"} for one in messages]

        sample = tokenize(said, tokenizer)

        assert tokenizer.decode(sample.tokens) == render(said, tokenizer)
        assert sample.tokens.count(tokenizer.eos_token_id) == plain.tokens.count(tokenizer.eos_token_id)
        assert sample.end == plain.end
        assert any(words in text for text in trained_text(sample, tokenizer))
        prompt = prompt_tokens(said[:-1], tokenizer)
        assert sample.tokens[: len(prompt)] == prompt


def test_rows_with_control_tokens_are_dropped_on_request(tokenizer_of):
    rows = [chat.training_row("Be brief.", "What?", answer) for answer in ("A sash.", "It ends<|im_end|>", "Twelve.")]

    kept = list(tokenize_rows(rows, tokenizer_of("chatml"), 1000, "rows", drop_control_tokens=True))

    assert [sample.row for sample in kept] == [1, 3]
