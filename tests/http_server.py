"""An HTTP server on this machine, in threads: what the tests' servers have in common.

class Greeter(HttpServer):
    def answer(self, request: Request) -> Answer:
        return Answer.of_json({"hello": request.query["name"]})

with Greeter() as server:
    ...  # server.url; then look at server.requests
"""

import abc
import dataclasses
import json
import ssl
import threading
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


@dataclasses.dataclass(frozen=True)
class Request:
    method: str
    address: str
    """Path and query, as they were sent."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.address).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.address).query))

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")

    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    status: int = 200
    body: bytes | Iterable[bytes] = b""
    """Pieces are sent one by one, with a Content-Length among the headers; when they end early, so does the
    connection."""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    delay_seconds: float = 0.0
    """Before anything is sent."""
    raw: Iterable[bytes] | None = None
    """Sent as it is in place of all the rest, piece by piece, before the connection ends."""
    sent: float = 1.0
    """Share of the body after which the connection ends; below 0: not even the status is sent."""

    @classmethod
    def of_json(cls, value: Any, status: int = 200) -> "Answer":
        return cls(status=status, body=json.dumps(value).encode(), headers={"Content-Type": "application/json"})


class HttpServer(abc.ABC):
    """Answers on a free port of 127.0.0.1, and remembers what it was asked."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.requests: list[Request] = []
        self.lock = threading.RLock()
        self.closing = threading.Event()
        """Set when the server stops: what waits for long waits for this."""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @abc.abstractmethod
    def answer(self, request: Request) -> Answer:
        """What a request is answered with; called in a thread of the connection's own."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: HttpServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up, and are killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        server = self.server.owner  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        with server.lock:
            server.requests.append(request)
        answer = server.answer(request)
        server.closing.wait(answer.delay_seconds)
        self._send(answer)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _send(self, answer: Answer) -> None:
        if answer.sent < 0:
            self.close_connection = True
            return
        if answer.raw is not None:
            self.close_connection = True
            for piece in answer.raw:
                self.wfile.write(piece)
            return
        headers, pieces = dict(answer.headers), answer.body
        if isinstance(pieces, bytes):
            headers.setdefault("Content-Length", str(len(pieces)))
            pieces = [pieces[: int(answer.sent * len(pieces))]]
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        sent = 0
        for piece in pieces if self.command != "HEAD" else ():
            self.wfile.write(piece)
            sent += len(piece)
        self.close_connection = self.close_connection or (
            self.command != "HEAD" and sent < int(headers["Content-Length"])
        )

    def log_message(self, format: str, *args: object) -> None:
        """Requests are remembered, not printed."""
