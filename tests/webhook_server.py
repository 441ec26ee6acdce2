"""A webhook on this machine: keeps what it is sent, and answers as a test wants.

with WebhookServer(answers=[503, 200]) as webhook:
    ...  # WEBHOOK_URL=webhook.url
"""

from collections.abc import Sequence
from typing import Any

from tests.http_server import Answer, HttpServer, Request

SECRET = "T0PLANTED/B0SECRET/hook"  # a part of the path, as in the address of a real one


class WebhookServer(HttpServer):
    def __init__(self, answers: Sequence[int] = (200,)) -> None:
        super().__init__()
        self.url += f"/services/{SECRET}"
        self.answers = list(answers)
        """Status of each answer in turn; the last one for all that follow."""

    @property
    def messages(self) -> list[Any]:
        return [request.json() for request in self.requests]

    def answer(self, request: Request) -> Answer:
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        headers = {"Location": "/elsewhere"} if status // 100 == 3 else {}
        body = f"no such hook: {request.path}".encode()  # some services repeat the address
        return Answer(status=status, body=body, headers=headers)
