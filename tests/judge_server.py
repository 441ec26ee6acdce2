"""A judge model's endpoint as openai's client sees it, on this machine: what the tests ask for verdicts.

with JudgeServer(lambda case: [RATE_LIMITED, says("right")]) as server:
    Judge(server.url, "judge-model").verdicts([...])  # each case: first 429, then a verdict

The function sees the case that a request's user message holds, {"question": ..., "reference": ..., "answer": ...}, and
gives the replies to the requests about it: the first to the first, the last to all that follow.
"""

import contextlib
import dataclasses
import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ADDRESS = "/v1/chat/completions"
KEY_SENT = "<the key that was sent>"  # in a reply's body: replaced by the key of the request


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    """What the endpoint sends back."""

    body: str
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    delay_seconds: float = 0.0
    """Before anything is sent."""
    sent: float = 1.0
    """Share of the body after which the connection is closed; below 0: not even the status is sent."""


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
        assert isinstance(content, str)
        return content

    @property
    def case(self) -> dict[str, str]:
        """What is to be judged."""
        case = json.loads(self.user_message)
        assert isinstance(case, dict)
        return case


Script = Callable[[dict[str, str]], Sequence[Reply]]


def completion(content: Any, **changes: Any) -> Reply:
    """A chat completion, with `changes` to its outermost object."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    whole = {"id": "1", "object": "chat.completion", "created": 1, "model": "judge-model", "choices": [choice]}
    return Reply(body=json.dumps({**whole, **changes}))


def says(verdict: Any, reason: Any = "As the reference says.") -> Reply:
    """A verdict as the judge is asked to give it."""
    return completion(json.dumps({"reason": reason, "verdict": verdict}))


def refuses(status: int, message: str = "No.", **headers: str) -> Reply:
    """An error as such endpoints send it; `Retry_After="0"` is the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, body=json.dumps({"error": {"message": message}}), headers=named)


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
    "content type of a text": dataclasses.replace(RIGHT, content_type="text/plain; charset=utf-8"),
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
    "the verdict alone": Reply(body='{"reason": "", "verdict": "right"}'),
    "error in a good reply": Reply(body='{"error": {"message": "No."}}'),
    "list in place of a completion": Reply(body="[]"),
    "null in place of a completion": Reply(body="null"),
    "body that is no JSON": Reply(body="right"),
    "body without anything": Reply(body=""),
    "body nested without end": Reply(body="[" * 100_000),
    "page": Reply(body=HTML, content_type="text/html"),
    "2 MB of a page": Reply(body=HTML + "x" * 2_000_000, content_type="text/html"),
}
"""Replies of status 200 that are no chat completion."""

RATE_LIMITED, RATE_LIMITED_UNTIL_NOW = refuses(429, "Slow down."), refuses(429, "Slow down.", Retry_After="0")
CLOSED, BREAKS_OFF = dataclasses.replace(RIGHT, sent=-1.0), dataclasses.replace(RIGHT, sent=0.5)
PASSING = {
    "429": RATE_LIMITED,
    "429, Retry-After: 0": RATE_LIMITED_UNTIL_NOW,
    "500": refuses(500),
    "500, page": Reply(status=500, body=HTML, content_type="text/html"),
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
    "401, the key in a text": Reply(
        status=401, body=f"Incorrect API key provided: {KEY_SENT}.", content_type="text/plain"
    ),
    "403, page": Reply(status=403, body=HTML, content_type="text/html"),
    "404": refuses(404, "There is no model of this name."),
    "404, body of another shape": Reply(status=404, body='["no", 1]'),
    "302 to nowhere": Reply(status=302, body=""),
}
"""Faults that asking again would not mend."""


class JudgeServer:
    """Replies as `script` says, on a free port of 127.0.0.1, and remembers what it was asked, in order."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.judge = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.001,), daemon=True)

    def __enter__(self) -> "JudgeServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reply_to(self, request: Request) -> Reply:
        with self._lock:
            asked = sum(earlier.user_message == request.user_message for earlier in self.requests)
            self.requests.append(request)
        replies = self.script(request.case)
        return replies[min(asked, len(replies) - 1)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client that waited long enough is gone
            super().handle()

    def do_POST(self) -> None:
        assert self.path == ADDRESS, self.path
        judge: JudgeServer = self.server.judge  # type: ignore[attr-defined]
        content = self.rfile.read(int(self.headers["Content-Length"]))
        request = Request({name.lower(): value for name, value in self.headers.items()}, json.loads(content))
        reply = judge.reply_to(request)
        judge.closing.wait(reply.delay_seconds)
        self._send(reply, reply.body.replace(KEY_SENT, request.key).encode())

    def _send(self, reply: Reply, body: bytes) -> None:
        self.close_connection = reply.sent < 1
        if reply.sent < 0:
            return
        self.send_response(reply.status)
        headers = {"Content-Type": reply.content_type, "Content-Length": str(len(body)), **reply.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: int(reply.sent * len(body))])

    def log_message(self, format: str, *args: object) -> None:
        """Requests are remembered, not printed."""
