"""A connection to a cluster's KFP API, and what its refusals mean.

Every call is made by kfp.Client. Around it stands what it lacks: time-outs, retries with pauses between, a check that
the answer is JSON and not a login page, and errors that a user can act on. The token is in none of them.

    connection = connect(find_access(host="https://ds-pipeline-dspa.example"))
    connection.ask(lambda: connection.client.list_runs())
"""

import contextlib
import dataclasses
import io
import json
import re
import ssl
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import kfp
import kfp_server_api
import urllib3
from kfp import client as kfp_client
from kfp_server_api.rest import RESTResponse

from components.shared.calls import Deadline, OutOfTime, TooLong, call_again, join, retry_after_seconds
from components.shared.problems import Problems, problem
from components.shared.progress import printable
from pipeline.cluster.access import Access

Answer = TypeVar("Answer")
MAX_MESSAGE = 400  # characters of a server's text that an error repeats
MAX_ANSWER_BYTES = 1 << 26
PIECE_BYTES = 1 << 16
GO_STACK = "\ngithub.com/"
# KFP's API server answers 500 to much that another attempt will not change: a pipeline that it cannot compile, a
# workflow that Kubernetes refuses.
REFUSAL = re.compile(
    "unknown field|failed to (unmarshal|compile)|is forbidden|denied the request|is invalid|is too large", re.IGNORECASE
)
GIVE_TOKEN = "give a fresh token by OSFT_KFP_TOKEN (oc whoami --show-token prints one), or log in with oc login"  # noqa: S105


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How long a call may take, and when it is made again."""

    connect_seconds: float = 10.0
    attempt_seconds: float = 30.0
    """From the first byte that is sent to the last that comes, however it trickles."""
    pauses_seconds: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """Between attempts; there is one attempt more."""
    max_pause_seconds: float = 60.0
    """Of those that the server asks for."""


class ApiError(Problems):
    """A call failed."""

    def __init__(self, error: Problems, status: int, may_pass: bool) -> None:
        super().__init__(error.problems)
        self.status = status
        """HTTP status; 0 when there was no answer."""
        self.may_pass = may_pass


class Connection:
    """A kfp.Client that retries; `find_access` and `connect` make it."""

    def __init__(self, access: Access, policy: RetryPolicy) -> None:
        self.access = access
        self.policy = policy
        token_file = kfp_client.ServiceAccountTokenVolumeCredentials(access.token_file) if access.token_file else None
        with _quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # kfp remarks on its own versions
            self.client = _Client(
                policy=policy,
                host=access.host,
                existing_token=access.token or None,
                credentials=token_file,
                ssl_ca_cert=access.ca or None,
            )

    def ask(self, call: Callable[[], Answer]) -> Answer:
        """Make a call that may be repeated; what kfp prints about it is dropped. Raises ApiError when the API refuses,
        or still fails after several attempts."""
        return _attempt(call, self.access, self.policy)

    def create(self, call: Callable[[], Answer], find: Callable[[], Answer | None]) -> Answer:
        """Make a call that must succeed once only: after a fault, which may have come after the deed, look first, and
        when it is there already, made by somebody at the same moment, take that. Raises ApiError as `ask`."""
        tried = False

        def call_or_find() -> Answer:
            nonlocal tried
            found = find() if tried else None
            tried = True
            return call() if found is None else found

        try:
            return self.ask(call_or_find)
        except ApiError as error:
            found = self.ask(find) if error.status == 409 else None
            if found is None:
                raise
            return found

    def read(self, path: str, last_bytes: int) -> bytes:
        """The end of what the API has at a path that kfp.Client does not know; asked once. Raises ApiError when the API
        refuses or fails."""
        once = dataclasses.replace(self.policy, pauses_seconds=())
        return _attempt(lambda: self.client.read(path, last_bytes), self.access, once)

    def printable(self, text: str) -> str:
        """A text of the server without control characters, and without the token, should it repeat it."""
        return printable(_hide_token(text, self.access))


def connect(access: Access, policy: RetryPolicy | None = None) -> Connection:
    """Connect, and make sure that a KFP API answers. Raises ApiError when it does not."""
    return _attempt(lambda: Connection(access, policy or RetryPolicy()), access, policy or RetryPolicy(), first=True)


class _Client(kfp.Client):
    """kfp.Client with time-outs and a look at the answers, from its first call on, which its constructor makes."""

    def __init__(self, *, policy: RetryPolicy, **options: Any) -> None:
        self.policy = policy
        self.guarded = False
        super().__init__(**options)
        if not self.guarded:  # a namespace is set in kfp's own settings, so that the constructor asked nothing
            self.get_kfp_healthz()

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
        """Ask once; kfp's own method logs five tracebacks before it gives up."""
        if not self.guarded:
            _guard(self._healthz_api.api_client, self.policy)
            self.guarded = True
        return self._healthz_api.healthz_service_get_healthz()

    def read(self, path: str, last_bytes: int) -> bytes:
        """The end of an answer, which may be large and need not be JSON."""
        api = self._healthz_api.api_client
        headers = dict(api.default_headers)
        api.update_params_for_auth(headers, [], ["Bearer"])
        timeout = urllib3.Timeout(connect=self.policy.connect_seconds, read=self.policy.attempt_seconds)
        with contextlib.closing(
            api.rest_client.pool_manager.urlopen(
                "GET", api.configuration.host + path, headers=headers, timeout=timeout, preload_content=False
            )
        ) as response:
            if response.status != 200:
                raise kfp_server_api.ApiException(http_resp=RESTResponse(_whole(response)))
            end = b""
            for piece in response.stream(PIECE_BYTES):
                end = (end + piece)[-last_bytes:]
            return end


class _NoKfpAnswer(Exception):
    """The answer is not what a KFP API sends; the text says what it is instead."""


def _guard(api_client: Any, policy: RetryPolicy) -> None:
    """Give every request of a client a time-out, follow no redirect, and let through only JSON of bounded length."""
    pools = api_client.rest_client.pool_manager
    pools.connection_pool_kw["retries"] = urllib3.Retry(0, raise_on_redirect=False)
    timeouts = {"_request_timeout": (policy.connect_seconds, policy.attempt_seconds)}
    send, ask, deserialize = api_client.request, pools.request, api_client.deserialize

    def bounded(*arguments: Any, **options: Any) -> Any:
        return _whole(ask(*arguments, **(options | {"preload_content": False})))

    def request(*arguments: Any, **options: Any) -> Any:
        try:
            response = send(*arguments, **(options | timeouts))
        except kfp_server_api.ApiException as error:
            error.body = (error.body or b"").decode("utf-8", "replace").encode()  # the caller decodes it as UTF-8
            raise
        try:
            answer = json.loads(response.data)
        except (ValueError, RecursionError):
            kind = "a web page" if b"<html" in response.data[:2000].lower() else "something that is no JSON"
            raise _NoKfpAnswer(kind) from None
        if not isinstance(answer, dict):
            raise _NoKfpAnswer("JSON of another kind")
        return response

    def read(*arguments: Any) -> Any:
        try:
            return deserialize(*arguments)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
            raise _NoKfpAnswer("JSON of another form") from None
        except kfp_server_api.ApiException:  # its word for times that are none
            raise _NoKfpAnswer("times that are none") from None

    pools.request, api_client.request, api_client.deserialize = bounded, request, read


def _whole(response: Any) -> Any:
    """An answer that is read to its end."""
    with contextlib.closing(response):
        try:
            content = join(response.stream(PIECE_BYTES), MAX_ANSWER_BYTES)
        except TooLong:
            raise _NoKfpAnswer(f"more than {MAX_ANSWER_BYTES >> 20} MiB") from None
    return urllib3.HTTPResponse(content, response.headers, response.status, reason=response.reason)


def _attempt(call: Callable[[], Answer], access: Access, policy: RetryPolicy, first: bool = False) -> Answer:
    """Call, and again after a pause for as long as the fault may pass."""
    attempts = len(policy.pauses_seconds) + 1

    def attempt() -> Answer:
        try:
            with _quiet():
                return Deadline(policy.attempt_seconds).call(call)
        except kfp_server_api.ApiException as error:
            refused = _refused(error, access, attempts, first)
            refused.retry_after_seconds = min(_asked_for(error), policy.max_pause_seconds)
            raise refused from None
        except (_NoKfpAnswer, OutOfTime, urllib3.exceptions.HTTPError) as error:
            raise _unanswered(error, access, attempts) from None

    return call_again(attempt, policy.pauses_seconds)


def _refused(error: Any, access: Access, attempts: int, first: bool) -> ApiError:
    """What a status means for the user."""
    status = int(error.status or 0)
    message = _hide_token(_message(error), access)
    refusal = status == 501 or (status >= 500 and REFUSAL.search(message))
    retryable = status == 429 or (status >= 500 and not refusal)
    what = f"the KFP API refuses ({status}){message}"
    if status == 401:
        what = f"the KFP API {'does not accept the token' if _has_token(access) else 'wants a token'} (401)"
        rule, remedy = "a token that has not expired", GIVE_TOKEN
    elif status == 403:
        what = f"the KFP API forbids it (403){message}"
        rule = "a token whose owner may use the pipelines of the project"
        remedy = f"ask for the role edit in the project, or {GIVE_TOKEN}"
    elif 300 <= status < 400:
        what = f"the host sends the caller elsewhere ({status}), as a login page does{message}"
        rule = "the address of the KFP API itself, and a token that it accepts"
        remedy = f"check --host (https and not http?), and {GIVE_TOKEN}"
    elif retryable:
        what = f"the KFP API fails after {attempts} attempts ({status}){message}"
        rule, remedy = "an API that answers", "try again later; if it lasts, look at the pods of the pipelines server"
    elif "unknown field" in message:
        rule = "a server that knows all fields of the pipeline: OpenShift AI 3.0 or upstream KFP 2.15, or newer "
        rule += "(with security.run_as_non_root in the cluster file OpenShift AI 3.4 or upstream KFP 2.16)"
        remedy = "upgrade the pipelines server"
    elif first:
        return ApiError(_no_kfp(access, f"it answers with status {status}"), status, retryable)
    else:
        rule, remedy = "what the API says", "correct what it names"
    return ApiError(problem(what, where=access.host, rule=rule, remedy=remedy), status, retryable)


def _unanswered(error: Exception, access: Access, attempts: int) -> ApiError:
    """What it means that there is no answer, or none of a KFP API."""
    if isinstance(error, _NoKfpAnswer):
        return ApiError(_no_kfp(access, f"it answers with {error}"), 0, may_pass=False)
    reason, retryable = getattr(error, "reason", None) or error, False
    rule = "a host that can be reached"
    remedy = "check the address, the network and the proxy (HTTPS_PROXY does not apply)"
    if isinstance(reason, urllib3.exceptions.SSLError | ssl.SSLError):
        what = f"the host's certificate is not trusted: {printable(str(reason))[:MAX_MESSAGE]}"
        rule = "a certificate of a known authority" if not access.ca else f"a certificate of those in {access.ca}"
        remedy = "give the cluster's certificate authority: --ca FILE.pem or OSFT_KFP_CA"
    elif isinstance(reason, urllib3.exceptions.NameResolutionError):
        what = "the host is not known"
    else:
        what, retryable = "the connection broke", True
        if isinstance(reason, urllib3.exceptions.NewConnectionError):  # to urllib3 this is a time-out, too
            what = "the host cannot be reached"
        elif isinstance(reason, urllib3.exceptions.TimeoutError | OutOfTime):
            what = "the host does not answer in time"
        what += f" ({attempts} attempt{'s' if attempts > 1 else ''})"
    return ApiError(problem(what, where=access.host, rule=rule, remedy=remedy), 0, retryable)


def _no_kfp(access: Access, what: str) -> Problems:
    return problem(
        f"there is no KFP API: {what}",
        where=access.host,
        rule="the address of the pipelines server, under which /apis/v2beta1/healthz is",
        remedy=f"give the route ds-pipeline-dspa of the project, not the dashboard or the console; and {GIVE_TOKEN}",
    )


def _message(error: Any) -> str:
    """': ' and the server's own words, without the Go stack behind them; nothing when it sends a web page."""
    with contextlib.suppress(ValueError, RecursionError):
        answer = json.loads(error.body or "")
        texts = [answer.get(key) for key in ("message", "error_message", "error")] if isinstance(answer, dict) else []
        for text in texts:
            if isinstance(text, str) and text:
                return f": {printable(text.partition(GO_STACK)[0])[:MAX_MESSAGE]}"
    return ""


def _hide_token(text: str, access: Access) -> str:
    """A server's text without the token, should it repeat it."""
    secrets = [access.token]
    if access.token_file:
        with contextlib.suppress(OSError):
            secrets.append(Path(access.token_file).read_text(encoding="utf-8").strip())
    for secret in filter(None, secrets):
        text = text.replace(secret, "(the token)")
    return text


def _has_token(access: Access) -> bool:
    return bool(access.token or access.token_file)


def _asked_for(error: Any) -> float:
    """Seconds that the server asks to wait."""
    return retry_after_seconds(error.headers or {}) or 0.0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """kfp.Client prints links of its own."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
