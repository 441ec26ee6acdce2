"""A connection to a cluster's KFP API, and what its refusals mean.

Every call is made by kfp.Client. Around it stands what it lacks: time-outs, new attempts with pauses between, a check
that the answer is JSON and not a login page, and errors that a user can act on. The token is in none of them.

    connection = connect(find_access(host="https://ds-pipeline-dspa.example"))
    connection.ask(lambda: connection.client.list_runs())
"""

import contextlib
import dataclasses
import io
import json
import ssl
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import kfp
import kfp_server_api
import urllib3
from kfp import client as kfp_client

from components.shared.problems import Problems, problem
from components.shared.progress import printable
from pipeline.cluster.access import Access

Answer = TypeVar("Answer")
MAX_MESSAGE = 400  # characters of a server's text that an error repeats
GIVE_TOKEN = "give a fresh token by OSFT_KFP_TOKEN (oc whoami --show-token prints one), or log in with oc login"  # noqa: S105


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a call may take."""

    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    pauses_seconds: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """Between attempts; there is one attempt more."""
    longest_pause_seconds: float = 60.0
    """Of those that the server asks for."""


class ApiError(Problems):
    """The API did not do what was asked."""

    def __init__(self, error: Problems, status: int, passing: bool) -> None:
        super().__init__(error.problems)
        self.status = status
        """HTTP status; 0 when there was no answer."""
        self.passing = passing
        """The same call may succeed later."""


class Connection:
    """A kfp.Client with patience; `find_access` and `connect` make it."""

    def __init__(self, access: Access, patience: Patience) -> None:
        self.access = access
        self.patience = patience
        token_file = kfp_client.ServiceAccountTokenVolumeCredentials(access.token_file) if access.token_file else None
        with _quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # kfp remarks on its own versions
            self.client = _Client(
                patience=patience,
                host=access.host,
                existing_token=access.token or None,
                credentials=token_file,
                ssl_ca_cert=access.ca or None,
            )

    def ask(self, call: Callable[[], Answer]) -> Answer:
        """Make a call that may be repeated; what kfp prints about it is dropped.

        Raises:
            ApiError: when the API refuses, or still fails after several attempts.
        """
        return _attempt(call, self.access, self.patience)

    def create(self, call: Callable[[], Answer], find: Callable[[], Answer | None]) -> Answer:
        """Make a call that must succeed once only: after a fault, which may have come after the deed, look first.

        Raises:
            ApiError: as `ask`.
        """
        tried = False

        def call_or_find() -> Answer:
            nonlocal tried
            found = find() if tried else None
            tried = True
            return call() if found is None else found

        return self.ask(call_or_find)


def connect(access: Access, patience: Patience | None = None) -> Connection:
    """Connect, and make sure that a KFP API answers.

    Raises:
        ApiError: when it does not.
    """
    return _attempt(lambda: Connection(access, patience or Patience()), access, patience or Patience(), first=True)


class _Client(kfp.Client):
    """kfp.Client with time-outs and a look at the answers, from its first call on, which its constructor makes."""

    def __init__(self, *, patience: Patience, **options: Any) -> None:
        self.patience = patience
        self.guarded = False
        super().__init__(**options)
        if not self.guarded:  # a namespace is set in kfp's own settings, so that the constructor asked nothing
            self.get_kfp_healthz()

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
        """Ask once; kfp's own method logs five tracebacks before it gives up."""
        if not self.guarded:
            _guard(self._healthz_api.api_client, self.patience)
            self.guarded = True
        return self._healthz_api.healthz_service_get_healthz()


class _NoKfpAnswer(Exception):
    """The answer is not what a KFP API sends; the text says what it is instead."""


def _guard(api_client: Any, patience: Patience) -> None:
    """Give every request of a client a time-out, follow no redirect, and let through only JSON."""
    api_client.rest_client.pool_manager.connection_pool_kw["retries"] = urllib3.Retry(0, raise_on_redirect=False)
    timeouts = {"_request_timeout": (patience.connect_seconds, patience.read_seconds)}
    send = api_client.request

    def request(*arguments: Any, **options: Any) -> Any:
        try:
            response = send(*arguments, **(options | timeouts))
        except kfp_server_api.ApiException as error:
            error.body = (error.body or b"").decode("utf-8", "replace").encode()  # the caller decodes it as UTF-8
            raise
        try:
            answer = json.loads(response.data)
        except ValueError:
            kind = "a web page" if b"<html" in response.data[:2000].lower() else "something that is no JSON"
            raise _NoKfpAnswer(kind) from None
        if not isinstance(answer, dict):
            raise _NoKfpAnswer("JSON of another kind")
        return response

    api_client.request = request


def _attempt(call: Callable[[], Answer], access: Access, patience: Patience, first: bool = False) -> Answer:
    """Call, and again after a pause for as long as the fault may pass."""
    attempts = len(patience.pauses_seconds) + 1
    for number in range(1, attempts + 1):
        asked_for = 0.0
        try:
            with _quiet():
                return call()
        except kfp_server_api.ApiException as error:
            refused = _refused(error, access, number, first)
            asked_for = _retry_after(error, patience)
        except (_NoKfpAnswer, urllib3.exceptions.HTTPError) as error:
            refused = _unanswered(error, access, number)
        if not refused.passing or number == attempts:
            raise refused
        time.sleep(max(patience.pauses_seconds[number - 1], asked_for))
    raise AssertionError("the loop returns or raises")


def _refused(error: Any, access: Access, attempts: int, first: bool) -> ApiError:
    """What a status means for the user."""
    status = int(error.status or 0)
    said = _hide(_message(error), access)
    where = access.host
    passing = status == 429 or status >= 500
    if status == 401:
        what = "the KFP API does not accept the token" if _has_token(access) else "the KFP API wants a token"
        found = problem(f"{what} (401)", where=where, rule="a token that has not expired", remedy=GIVE_TOKEN)
    elif status == 403:
        found = problem(
            f"the KFP API forbids it (403){said}",
            where=where,
            rule="a token whose owner may use the pipelines of the project",
            remedy="ask for the role edit in the project, or " + GIVE_TOKEN,
        )
    elif 300 <= status < 400:
        found = problem(
            f"the host sends the caller elsewhere ({status}), as a login page does{said}",
            where=where,
            rule="the address of the KFP API itself, and a token that it accepts",
            remedy="check --host (https and not http?), and " + GIVE_TOKEN,
        )
    elif passing:
        found = problem(
            f"the KFP API fails after {attempts} attempts ({status}){said}",
            where=where,
            rule="an API that answers",
            remedy="try again later; if it lasts, look at the pods of the pipelines server",
        )
    elif first:
        found = _no_kfp(access, f"it answers with status {status}")
    else:
        found = problem(
            f"the KFP API refuses ({status}){said}",
            where=where,
            rule="what the API says",
            remedy="correct what it names",
        )
    return ApiError(found, status, passing)


def _unanswered(error: Exception, access: Access, attempts: int) -> ApiError:
    """What it means that there is no answer, or none of a KFP API."""
    reason = getattr(error, "reason", None) or error
    if isinstance(error, _NoKfpAnswer):
        return ApiError(_no_kfp(access, f"it answers with {error}"), 0, passing=False)
    if isinstance(reason, urllib3.exceptions.SSLError | ssl.SSLError):
        found = problem(
            f"the host's certificate is not trusted: {printable(str(reason))[:MAX_MESSAGE]}",
            where=access.host,
            rule="a certificate of a known authority" if not access.ca else f"a certificate of those in {access.ca}",
            remedy="give the cluster's certificate authority: --ca FILE.pem or OSFT_KFP_CA",
        )
        return ApiError(found, 0, passing=False)
    remedy = "check the address, the network and the proxy (HTTPS_PROXY does not apply)"
    rule = "a host that can be reached"
    if isinstance(reason, urllib3.exceptions.NameResolutionError):
        return ApiError(problem("the host is not known", where=access.host, rule=rule, remedy=remedy), 0, passing=False)
    if isinstance(reason, urllib3.exceptions.NewConnectionError):  # to urllib3 this is a time-out, too
        what = "the host cannot be reached"
    elif isinstance(reason, urllib3.exceptions.TimeoutError):
        what = "the host does not answer in time"
    else:
        what = "the connection broke"
    attempted = f"{what} ({attempts} attempt{'s' if attempts > 1 else ''})"
    return ApiError(problem(attempted, where=access.host, rule=rule, remedy=remedy), 0, passing=True)


def _no_kfp(access: Access, what: str) -> Problems:
    return problem(
        f"there is no KFP API: {what}",
        where=access.host,
        rule="the address of the pipelines server, under which /apis/v2beta1/healthz is",
        remedy="give the route ds-pipeline-dspa of the project, and not the dashboard or the console; and "
        + GIVE_TOKEN,
    )


def _message(error: Any) -> str:
    """': ' and the server's own words, or nothing when it sends a web page."""
    with contextlib.suppress(ValueError):
        answer = json.loads(error.body or "")
        texts = [answer.get(key) for key in ("message", "error_message", "error")] if isinstance(answer, dict) else []
        for text in texts:
            if isinstance(text, str) and text:
                return f": {printable(text)[:MAX_MESSAGE]}"
    return ""


def _hide(text: str, access: Access) -> str:
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


def _retry_after(error: Any, patience: Patience) -> float:
    """Seconds that the server asks to wait, within reason."""
    text = (error.headers or {}).get("Retry-After", "")
    return min(float(text), patience.longest_pause_seconds) if text.isdecimal() else 0.0


@contextlib.contextmanager
def _quiet() -> Any:
    """kfp.Client prints links of its own."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
