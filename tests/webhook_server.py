"""A webhook on this machine: keeps what it is told, and answers as a test wants.

with WebhookServer(answers=[503, 200]) as webhook:
    ...  # WEBHOOK_URL=webhook.url
"""

import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "T0PLANTED/B0SECRET/hook"  # a part of the path, as in the address of a real one


class WebhookServer:
    """Serves one webhook on a free port of 127.0.0.1."""

    def __init__(self, answers: Sequence[int] = (200,)) -> None:
        self.answers = list(answers)
        """Status of each answer in turn; the last one for all that follow."""
        self.messages: list[Any] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hook = self  # type: ignore[attr-defined]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/services/{SECRET}"

    def __enter__(self) -> "WebhookServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        hook: WebhookServer = self.server.hook  # type: ignore[attr-defined]
        hook.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        status = hook.answers.pop(0) if len(hook.answers) > 1 else hook.answers[0]
        self.send_response(status)
        if status // 100 == 3:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(f"no such hook: {self.path}".encode())  # some services repeat the address

    def log_message(self, *_: object) -> None:
        """Nothing: the address is a secret."""
