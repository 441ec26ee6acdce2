"""A judge model's endpoint as openai's client sees it, on this machine: what the tests ask for verdicts.

with JudgeServer(lambda case: [RATE_LIMITED, says("right")]) as server:
    Judge(server.url, "judge-model").verdicts([...])  # each case: first 429, then a verdict

The function sees the case that a request's user message holds, {"question": ..., "reference": ..., "answer": ...}, and
gives the replies to the requests about it: the first to the first, the last to all that follow.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
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
        (content,) = [message["content"] for message in self.body["messages"] if message["role"] == "user"]
        return str(content)

    @property
    def case(self) -> dict[str, str]:
        """What is to be graded."""
        return dict(json.loads(self.user_message))


Script = Callable[[dict[str, str]], Sequence[Reply]]


def reply(body: str, content_type: str = "application/json", **more: Any) -> Reply:
    return Reply(body=body.encode(), headers={"Content-Type": content_type}, **more)


def completion(content: Any, **changes: Any) -> Reply:
    """A chat completion, with `changes` to its outermost object."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
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
}
"""Verdicts, however oddly said."""

UNUSABLE = {
    "no JSON": completion("It is right."),
    "JSON after prose": completion('Here it is: {"reason": "", "verdict": "right"}'),
    "cut JSON": completion('{"reason": "As the reference says.", "verdict": "ri'),
    "two objects": completion('{"verdict": "right"}{"verdict": "wrong"}'),
    "list": completion('[{"reason": "", "verdict": "right"}]'),
    "number": completion("1"),
    "no verdict": completion('{"reason": "As the reference says."}'),
    "maybe": says("maybe"),
    "in capitals": says("RIGHT"),
    "true": says(True),
    "list of verdicts": says(["right"]),
    "nested without end": completion("[" * 19_000),
    "the key in the content": completion(f"My key is {KEY_SENT}."),
    "the key where the content is cut": completion("x" * 70 + KEY_SENT),
    "empty": completion(""),
    "none": completion(None),
    "content in parts": completion([{"type": "text", "text": '{"reason": "", "verdict": "right"}'}]),
    "content is a number": completion(5),
    "content is an object": completion({"reason": "", "verdict": "right"}),
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
    "400": refuses(400, "This model knows no response_format."),
    "401, the key in the message": refuses(401, f"Incorrect API key provided: {KEY_SENT}."),
    "401, the key where the message is cut": refuses(401, "x" * 45 + KEY_SENT),
    "401, the key in a text": reply(f"Incorrect API key provided: {KEY_SENT}.", "text/plain", status=401),
    "403, page": reply(HTML, "text/html", status=403),
    "404": refuses(404, "There is no model of this name."),
    "404, body of another shape": reply('["no", 1]', status=404),
    "302 to nowhere": reply("", status=302),
}
"""Faults that asking again would not mend."""


class JudgeServer(HttpServer):
    """Replies as `script` says and remembers what it was asked, in order."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script
        self.asked: list[Request] = []
        self.url += "/v1"

    def answer(self, request: HttpRequest) -> Reply:
        assert request.path == ADDRESS, request.path
        asked = Request(dict(request.headers), request.json())
        with self.lock:
            before = sum(earlier.user_message == asked.user_message for earlier in self.asked)
            self.asked.append(asked)
        replies = self.script(asked.case)
        chosen = replies[min(before, len(replies) - 1)]
        assert isinstance(chosen.body, bytes)
        return dataclasses.replace(chosen, body=chosen.body.replace(KEY_SENT.encode(), asked.key.encode()))
