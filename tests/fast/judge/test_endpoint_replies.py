"""Verdicts in the replies of models, and what an error says that a request must do without."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.grading.cases import Verdict
from components.grading.endpoint_replies import MAX_REPLY, Change, next_change, parse

PARSED = [
    ('{"reason": "Red is not crimson.", "verdict": "wrong"}', Verdict(False, "Red is not crimson.")),
    ('{"verdict": "right", "reason": "Yes."}', Verdict(True, "Yes.")),
    ('{"verdict": "right", "reason": null, "score": 1}', Verdict(True, "")),
    ('{"verdict": "right", "reason": "' + "long " * 2000 + '"}', Verdict(True, "long " * 2000)),
    ('{"verdict": "right", "reason": "a\\nb\\u0000c\\ud83dd\\u202ee"}', Verdict(True, "a b c d e")),
    ('{"verdict": "wrong", "reason": "not {\\"verdict\\": \\"right\\"}"}', Verdict(False, 'not {"verdict": "right"}')),
    ('{"verdict": "wrong", "of": {"verdict": "right"}}', Verdict(False, "")),
    *((text, Verdict(True, "")) for text in (
        '{"verdict": "right"}', '  {"verdict": "right"}\n', '```json\n{"verdict": "right"}\n```',
        '```\n{"verdict": "right"}\n```', '```json{"verdict": "right"}', '{"verdict": "right"}'.ljust(MAX_REPLY),
        '\ufeff{"verdict": "right"}', '```json\n{"verdict": "right"}\n```\nI am sure.', 'It is: {"verdict": "right"}.',
        '<think>Hm.</think>{"verdict": "right"}', '<think>{"verdict": "wrong"}</think>{"verdict": "right"}',
        '{"verdict": "wrong"}</think>{"verdict": "right"}', '{"verdict": "wrong"} {"verdict": "right"}',
        '{"verdict": "right"}<think>{"verdict": "wrong"}', '{"verdict": "right"} {"verdict": "maybe"}',
        '{"verdict": "Right"}', '{"verdict": " RIGHT"}', '{"result": {"verdict": "right"}}', '[{"verdict": "right"}]',
        '{"a": {x} {"verdict": "right"}}', "{" * 15_000 + '{"verdict": "right"}',
        "x" * MAX_REPLY + '{"verdict": "right"}',
    )),
    *((text, None) for text in (
        '{"verdict": ""}', '{"verdict": null}', '{"verdict": true}', '{"verdict": 1}', '{"verdict": ["right"]}',
        '{"verdict": {"right": true}}', '{"Verdict": "right"}', "{'verdict': 'right'}", '{"verdict": "right",}',
        '{"verdict": "right"', '{"verdict": "not right"}', '<think>{"verdict": "right"}',
        '{"verdict": "right"}</think>', '"right"', "right", "1", "null", "NaN", "", "```json\n```", "[" * MAX_REPLY,
        "9" * MAX_REPLY, '{"a":' * (MAX_REPLY // 5), '{"verdict": "right"}'.ljust(MAX_REPLY + 20),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "verdict"), PARSED)
def test_reply_is_parsed(reply: str, verdict: Verdict | None) -> None:
    assert parse(reply) == verdict


VERDICT_TEXTS = st.sampled_from(["right", "wrong", "Right", "maybe", ""])
ANY_TEXT = st.text(st.characters(), max_size=30)  # half surrogate pairs too
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | VERDICT_TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["verdict", "reason", "x"]), inner),
    max_leaves=6,
)


def verdicts_in(value: Any) -> Iterator[bool]:
    """Of the outermost objects that have one, in their order."""
    said = value.get("verdict") if isinstance(value, dict) else None
    if isinstance(said, str) and said in ("right", "Right", "wrong"):
        yield said != "wrong"
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from verdicts_in(inner)


@settings(deadline=None, database=None)
@given(
    ANY_JSON, st.sampled_from(["{}", "```json\n{}\n```", "So:\n {} \nor not.", '<think>{"verdict": "right"}</think>{}'])
)
def test_last_outermost_object_with_a_verdict_gives_it(value: Any, wrapping: str) -> None:
    found = parse(wrapping.replace("{}", json.dumps(value)))

    assert (found.right if found else None) is (None, *verdicts_in(value))[-1]
    if found:
        assert found.reason.isprintable()


@settings(deadline=None, database=None)
@given(ANY_TEXT | st.lists(st.sampled_from([*'{}[]":,\\`\n', '"verdict"', '"right"', "<think>", "1e999"])).map("".join))
def test_parsing_never_raises(reply: str) -> None:
    found = parse(reply)

    assert found is None or (found.right and '"verdict":"right"' in reply)


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        # The parameter before the text, and in the text what is named first.
        ({"param": "temperature", "message": "max_tokens is fine"}, [Change.NO_TEMPERATURE, Change.COMPLETION_TOKENS]),
        ({"param": None, "message": "unsupported: max_tokens, temperature"},
         [Change.COMPLETION_TOKENS, Change.NO_TEMPERATURE]),
        ({"param": "response_format.type"}, [Change.JSON_OBJECT, Change.NO_FORMAT]),
        ({"message": "guided decoding is off"}, [Change.JSON_OBJECT, Change.NO_FORMAT]),
        ("Only user and assistant roles are supported!", [Change.NO_SYSTEM]),
        ({"detail": [{"loc": ["body", "temperature"], "input": [{"content": "max_tokens"}]}]}, [Change.NO_TEMPERATURE]),
        ({"message": "litellm.APIConnectionError: json.decoder.JSONDecodeError: Expecting value"}, []),
        ({"message": "The system is down."}, []),
        ({"param": 7}, []),
        ([None, 1.5], []),
        (None, []),
    ],
)  # fmt: skip
def test_error_names_what_to_change_until_nothing_is_left(body: Any, changes: list[Change]) -> None:
    made: list[Change] = []
    while (change := next_change(body, set(made))) is not None:
        made.append(change)

    assert made == changes
