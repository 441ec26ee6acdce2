"""A judge model's endpoint as openai's client sees it, on this machine: what the tests ask for verdicts.

with JudgeServer(lambda case: [RATE_LIMITED, says("right")]) as server:
    EndpointJudge(server.url, "judge-model", ...).verdicts([...])  # each case: first 429, then a verdict

The function sees the case that a request's user message holds, {"question": ..., "reference": ..., "answer": ...}, and
gives the replies to the requests about it: the first to the first, the last to all that follow. Endpoints whose replies
depend on the whole request are in tests/judge_endpoints.py.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.http_server import Answer as Reply
from tests.http_server import HttpServer
from tests.http_server import Request as HttpRequest

ADDRESS = "/v1/chat/completions"
KEY_SENT = "<the key that was sent>"  # in a reply's body: replaced by the key of the request
JSON = {"Content-Type": "application/json"}


@dataclasses.dataclass(frozen=True)
class Request:
    headers: dict[str, str]
    """Names in lower case."""
    body: dict[str, Any]

    @property
    def key(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def user_message(self) -> str:
        """The case as JSON, without a rubric before it."""
        (content,) = [message["content"] for message in self.body["messages"] if message["role"] == "user"]
        return str(content)[content.index('{"question": ') :]

    @property
    def case(self) -> dict[str, str]:
        """What is to be graded."""
        return dict(json.loads(self.user_message))


Script = Callable[[dict[str, str]], Sequence[Reply]]
Endpoint = Callable[[dict[str, Any]], Reply]  # of a request's body


def reply(body: str, content_type: str = "application/json", **more: Any) -> Reply:
    return Reply(body=body.encode(), headers={"Content-Type": content_type}, **more)


def completion(content: Any, finish: str = "stop", message: Mapping[str, Any] | None = None, **changes: Any) -> Reply:
    """A chat completion, with more in its message, and with `changes` to its outermost object."""
    said = {"role": "assistant", "content": content, **(message or {})}
    choice = {"index": 0, "finish_reason": finish, "message": said}
    whole = {"id": "1", "object": "chat.completion", "created": 1, "model": "judge-model", "choices": [choice]}
    return Reply.of_json({**whole, **changes})


def says(verdict: Any, reason: Any = "As the reference says.") -> Reply:
    """A verdict as the judge is asked to give it."""
    return completion(json.dumps({"reason": reason, "verdict": verdict}))


def refuses(status: int, message: str = "No.", **headers: str) -> Reply:
    """An error as such endpoints send it; `Retry_After="0"` is the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, body=json.dumps({"error": {"message": message}}).encode(), headers=JSON | named)


RIGHT, WRONG = says("right"), says("wrong", "The reference says something else.")
HTML = "<!doctype html><title>Sign in</title><p>Sign in to go on.</p>"

USABLE = {
    "right": RIGHT,
    "wrong": WRONG,
    "no reason": completion('{"verdict": "right"}'),
    "reason that is no text": says("right", ["As", "the", "reference", "says."]),
    "in a block of JSON": completion('```json\n{"reason": "As the reference says.", "verdict": "right"}\n```\n'),
    "in a block": completion('```\n{"reason": "As the reference says.", "verdict": "wrong"}\n```'),
    "white space around it": completion('\n\n {"reason": "As the reference says.", "verdict": "right"} \n'),
    "content type of a text": dataclasses.replace(RIGHT, headers={"Content-Type": "text/plain; charset=utf-8"}),
    "control characters": says("right", "\x1b[31mred\x1b[0m\x00\x07\r\nnext line\x9b"),
    "tags": says("wrong", "<script>alert(1)</script>"),
    "right-to-left marks": says("right", "\u202eesrever\u202c \u200fmarks"),
    "formula": says("right", '=HYPERLINK("http://127.0.0.1/", "here")'),
    "half a surrogate pair": says("wrong", "half \ud83d, then more"),
    "long reason": says("right", "long " * 2000),
    "the key in the reason": says("wrong", f"I was sent {KEY_SENT} and {KEY_SENT}."),
    "the key where the reason is cut": says("wrong", "x" * 490 + KEY_SENT),
    "JSON after prose": completion('Here it is: {"reason": "", "verdict": "right"}'),
    "two objects": completion('{"verdict": "right"}{"verdict": "wrong"}'),
    "list": completion('[{"reason": "", "verdict": "right"}]'),
    "in capitals": says("RIGHT"),
    "content in parts": completion([{"type": "text", "text": '{"verdict": "right"'}, {"type": "text", "text": "}"}]),
    "content is an object": completion({"reason": "", "verdict": "right"}),
    "reply cut after the verdict": completion('{"verdict": "right"} and so', "length"),
    "a long thought before it": completion("<think>" + "{" * 50_000 + '</think>{"verdict": "right"}'),
}
"""Verdicts, however oddly said."""

UNUSABLE = {
    "no JSON": completion("It is right."),
    "cut JSON": completion('{"reason": "As the reference says.", "verdict": "ri'),
    "number": completion("1"),
    "no verdict": completion('{"reason": "As the reference says."}'),
    "maybe": says("maybe"),
    "true": says(True),
    "list of verdicts": says(["right"]),
    "nested without end": completion("[" * 19_000),
    "the key in the content": completion(f"My key is {KEY_SENT}."),
    "the key where the content is cut": completion("x" * 1990 + KEY_SENT),
    "empty": completion(""),
    "none": completion(None),
    "content is a number": completion(5),
    "2 MB of content": says("right", "x" * 2_000_000),
}
"""Chat completions without a verdict."""

NO_COMPLETIONS = {
    "no choices": completion("", choices=[]),
    "choices are null": completion("", choices=None),
    "choices are an object": completion("", choices={"message": {"content": '{"verdict": "right"}'}}),
    "choices are a number": completion("", choices=7),
    "no message": completion("", choices=[{"index": 0}]),
    "message is a text": completion("", choices=[{"message": '{"verdict": "right"}'}]),
    "the verdict alone": reply('{"reason": "", "verdict": "right"}'),
    "error in a good reply": reply('{"error": {"message": "No."}}'),
    "list in place of a completion": reply("[]"),
    "null in place of a completion": reply("null"),
    "body that is no JSON": reply("right"),
    "body without anything": reply(""),
    "body nested without end": reply("[" * 100_000),
    "page": reply(HTML, "text/html"),
    "2 MB of a page": reply(HTML + "x" * 2_000_000, "text/html"),
}
"""Replies of status 200 that are no chat completion."""

RATE_LIMITED, RATE_LIMITED_UNTIL_NOW = refuses(429, "Slow down."), refuses(429, "Slow down.", Retry_After="0")
CLOSED, BREAKS_OFF = dataclasses.replace(RIGHT, sent=-1.0), dataclasses.replace(RIGHT, sent=0.5)
PASSING = {
    "429": RATE_LIMITED,
    "429, Retry-After: 0": RATE_LIMITED_UNTIL_NOW,
    "500": refuses(500),
    "500, page": reply(HTML, "text/html", status=500),
    "503": refuses(503, "Loading the model."),
    "503, the key in the message": refuses(503, f"{'Loading. ' * 5}{KEY_SENT}"),
    "closed before the reply": CLOSED,
    "closed in the middle": BREAKS_OFF,
    "slow": dataclasses.replace(RIGHT, delay_seconds=60.0),
}
"""Faults after which the client asks again of itself."""

REFUSED = {
    "400": refuses(400, "No such thing."),
    "400, the key in a field": Reply.of_json({"error": {"message": "No.", "sent": [f'"{KEY_SENT}"']}}, 400),
    "401, the key in the message": refuses(401, f"Incorrect API key provided: {KEY_SENT}."),
    "401, the key where the message is cut": refuses(401, "x" * 1985 + KEY_SENT),
    "401, the key in a text": reply(f"Incorrect API key provided: {KEY_SENT}.", "text/plain", status=401),
    "403, page": reply(HTML, "text/html", status=403),
    "404": refuses(404, "There is no model of this name."),
    "404, body of another shape": reply('["no", 1]', status=404),
    "302 to nowhere": reply("", status=302),
}
"""Faults that asking again would not mend."""


class JudgeServer(HttpServer):
    """Replies as `script` says, or as `endpoint` does, and remembers what it was asked, in order."""

    def __init__(self, script: Script | None = None, *, endpoint: Endpoint | None = None) -> None:
        super().__init__()
        self.script, self.endpoint = script, endpoint
        self.asked: list[Request] = []
        self.url += "/v1"

    def answer(self, request: HttpRequest) -> Reply:
        assert request.path == ADDRESS, request.path
        asked = Request(dict(request.headers), request.json())
        with self.lock:
            before = sum(earlier.user_message == asked.user_message for earlier in self.asked)
            self.asked.append(asked)
        if self.script:
            replies = self.script(asked.case)
            chosen = replies[min(before, len(replies) - 1)]
        else:
            assert self.endpoint
            chosen = self.endpoint(asked.body)
        assert isinstance(chosen.body, bytes)
        return dataclasses.replace(chosen, body=chosen.body.replace(KEY_SENT.encode(), asked.key.encode()))
