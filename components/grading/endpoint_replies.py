"""What endpoints with OpenAI's chat completions API send: OpenAI, vLLM, LiteLLM, Ollama, llama.cpp and their like.

    "<think>Red is not crimson.</think>{"verdict": "Wrong", "reason": "Red."}"  ->  Verdict(False, "Red.")
    {"message": "Unsupported parameter: 'max_tokens' ...", "param": "max_tokens"}  ->  Change.COMPLETION_TOKENS

An error is read by the name of what it refuses, whoever words it: first by its `param`, then by its text.
"""

import dataclasses
import enum
import json
import re
from collections.abc import Iterator, Mapping, Set
from typing import Any

from components.grading.cases import Verdict
from components.grading.rubric import VERDICTS
from components.shared.progress import printable

MAX_REPLY = 20_000  # characters at the end of a reply in which a verdict is looked for
MAX_DEPTH = 20  # of an error's body; Google's reasons lie four deep
REFUSED_CONTENT = re.compile(
    r"content[_ ]?(filter|policy|management)|responsible_?ai|invalid_prompt|usage polic|\bflagged\b", re.I
)
UNKNOWN_MODEL = re.compile(
    r"model_not_found|(invalid|unknown|no such|not a valid) model|\bmodel\b.{0,80}?\b(not found|not exist)", re.I | re.S
)
ECHOES = ("input", "ctx", "url")  # fields of an error that repeat the request: what they name is not what is refused
_FORMAT = r"response[_ ]?format|json[_ ]?(schema|object|mode|validate)|guided|structured[_ ]output|grammar"
_LIMIT = r"max_(completion_)?tokens"


class Change(enum.Enum):
    """What can be asked otherwise: in plain words, and what an error says that calls for it; in the order of trying."""

    JSON_OBJECT = "response_format json_object in place of json_schema", _FORMAT
    NO_FORMAT = "no response_format", _FORMAT
    NO_TEMPERATURE = "no temperature: the endpoint's own, verdicts may vary", "temperature"
    COMPLETION_TOKENS = "max_completion_tokens in place of max_tokens", _LIMIT
    NO_SYSTEM = (
        "the rubric in the user's message in place of the system's",
        r"\broles?\b|system[_ ]?(message|prompt|role|instruction)|developer instruction",
    )

    @property
    def words(self) -> str:
        return self.value[0]

    @property
    def pattern(self) -> str:
        return self.value[1]


@dataclasses.dataclass(frozen=True)
class Completion:
    """A chat completion."""

    text: str
    verdict: Verdict | None
    refusal: str
    """Why the endpoint refuses to grade, in its words; empty when it does not."""
    cut: bool
    """Ended by the limit of tokens."""


def read_completion(body: str) -> Completion | None:
    """The first choice of a chat completion; None when it is none.

    The content counts; without a verdict there, the arguments of tool calls; a model's thoughts only when there is no
    content and they were not cut.
    """
    try:
        choice = json.loads(body)["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        content, thoughts = (_text(message.get(name)) for name in ("content", "reasoning_content"))
        calls = "\n".join(_text(call["function"]["arguments"]) for call in message.get("tool_calls") or [])
        refusal = _text(message.get("refusal"))
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None
    thoughts = thoughts or _text(message.get("reasoning"))
    verdict = parse(content) or parse(calls)
    if not content.strip() and finish != "length":
        verdict = verdict or parse(thoughts)
    if finish == "content_filter":
        refusal, verdict = refusal or content or "the endpoint's content filter stopped the reply", None
    return Completion(content or calls or thoughts, verdict, "" if verdict else refusal, finish == "length")


def parse(reply: str) -> Verdict | None:
    """The verdict of the last JSON object in a reply that has one; None without any.

    What a model says before `</think>` does not count, nor what it thinks without an end. The reason is complete, on
    one line, without control characters.
    """
    said = reply.rpartition("</think>")[2].partition("<think>")[0][-MAX_REPLY:]
    decoder, found = json.JSONDecoder(), None
    start = said.find("{")
    while start >= 0:
        end = start + 1
        try:
            value, after = decoder.raw_decode(said, start)
        except (ValueError, RecursionError):
            pass
        else:
            grade = value.get("verdict")
            if isinstance(grade, str) and grade.strip().lower() in VERDICTS:
                reason = value.get("reason", "")
                found = Verdict(grade.strip().lower() == "right", printable(reason) if isinstance(reason, str) else "")
                end = after
        start = said.find("{", end)
    return found


def next_change(body: Any, made: Set[Change]) -> Change | None:
    """What to change after an error with this body, besides what was changed already; None when it names nothing."""
    param = body.get("param") if isinstance(body, Mapping) else None
    for text in (param if isinstance(param, str) else "", " ".join(_strings(body))):
        named = {
            change: match.start()
            for change in Change
            if change not in made and (match := re.search(change.pattern, text, re.I))
        }
        if named:
            return min(named, key=named.__getitem__)  # of the first named; of two for the same, the first to try
    return None


def is_refused_content(body: Any) -> bool:
    """Whether an error refuses what is to be graded, and not the request."""
    return bool(REFUSED_CONTENT.search(" ".join(_strings(body))))


def is_unknown_model(body: Any) -> bool:
    return bool(UNKNOWN_MODEL.search(" ".join(_strings(body))))


def words_of(body: Any) -> str:
    """An error in the endpoint's own words: its message, and whatever else it says."""
    if not isinstance(body, Mapping) or not isinstance(body.get("message"), str):
        return body if isinstance(body, str) else "" if body is None else _as_json(body)
    known = ("message", "object", "type", "param", "code", "status")
    further = {name: value for name, value in body.items() if name not in known and value}
    return body["message"] + (f" {_as_json(further)}" if further else "")


def words_of_reply(text: str) -> str:
    """The same of a reply that is no error by its status."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return words_of(value.get("error", value) if isinstance(value, dict) else value)


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "JSON that is nested deeply"


def _text(value: Any) -> str:
    """Content as a text: as it is, its parts of text, or an object as JSON."""
    if isinstance(value, list):
        parts = (part.get("text") for part in value if "text" in str(part.get("type")))
        return "\n".join(part for part in parts if isinstance(part, str))
    return value if isinstance(value, str) else _as_json(value) if isinstance(value, dict) else ""


def _strings(value: Any, depth: int = 0) -> Iterator[str]:
    """Every string in an error's body, in order, without what repeats the request and what lies deep in it."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in ECHOES:
                yield from _strings(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, depth + 1)
    elif isinstance(value, str):
        yield value
