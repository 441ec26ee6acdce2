"""A connection to a cluster's KFP API: where it is, who asks, and what its refusals mean.

Every call is made by kfp.Client. Around it stands what it lacks: time-outs, new attempts with pauses between, a check
that the answer is JSON and not a login page, and errors that a user can act on. The token is in none of them.

    connection = connect(find_access(host="https://ds-pipeline-dspa.example"))
    connection.ask(lambda: connection.client.list_runs())
"""

import contextlib
import dataclasses
import io
import json
import os
import ssl
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import kfp
import kfp_server_api
import urllib3
from kfp import client as kfp_client

from components.problems import Checks, Problems, problem, quote, quote_address
from components.progress import printable
from pipeline.cluster_rules import is_page

Answer = TypeVar("Answer")

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")  # Kubernetes mounts it into every pod
SERVER = "https://ds-pipeline-dspa.{namespace}.svc.cluster.local:8443"  # OpenShift AI's, inside the cluster
LONGEST_MESSAGE = 400  # characters of a server's text that an error repeats
GIVE_TOKEN = "give a fresh token by OSFT_KFP_TOKEN (oc whoami --show-token prints one), or log in with oc login"  # noqa: S105


@dataclasses.dataclass(frozen=True, kw_only=True)
class Access:
    """Where the API is and who asks."""

    host: str
    token: str = dataclasses.field(default="", repr=False)
    token_file: str = ""
    """A file that holds the token and is read at every call: Kubernetes renews it."""
    ca: str = ""
    """PEM file of the certificate authorities to trust; empty: the usual public ones."""
    runs_page: str = ""
    """The page of the project's runs in OpenShift AI's dashboard, .../PROJECT/runs; empty: there are no links."""

    def run_link(self, run_id: str) -> str:
        return f"{self.runs_page}/{run_id}" if self.runs_page else ""

    def schedule_link(self, schedule_id: str) -> str:
        return f"{self.runs_page.removesuffix('/runs')}/schedules/{schedule_id}" if self.runs_page else ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a call may take."""

    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    pauses_seconds: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """Between attempts; there is one attempt more."""
    longest_pause_seconds: float = 60.0
    """Of those that the server asks for."""


class Refused(Problems):
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
            Refused: when the API refuses, or still fails after several attempts.
        """
        return _attempt(call, self.access, self.patience)

    def create(self, call: Callable[[], Answer], find: Callable[[], Answer | None]) -> Answer:
        """Make a call that must succeed once only: after a fault, which may have come after the deed, look first.

        Raises:
            Refused: as `ask`.
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
        Refused: when it does not.
    """
    return _attempt(lambda: Connection(access, patience or Patience()), access, patience or Patience(), first=True)


def find_access(
    *,
    host: str = "",
    token: str = "",
    ca: str = "",
    runs_page: str = "",
    environment: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
) -> Access:
    """Fill in what is not given: inside the cluster from the pod's service account, elsewhere from the login with oc.

    Raises:
        Problems: naming everything that is wrong or missing.
    """
    checks = Checks()
    token_file = ""
    namespace = service_account / "namespace"
    if not token:
        named = environment.get(kfp_client.KF_PIPELINES_SA_TOKEN_ENV, "")
        files = (named, kfp_client.KF_PIPELINES_SA_TOKEN_PATH, str(service_account / "token"))
        token_file = next((file for file in files if file and (file == named or Path(file).is_file())), "")
        if token_file and not os.access(token_file, os.R_OK):
            checks.add(
                f"the token file {token_file} cannot be read",
                where=kfp_client.KF_PIPELINES_SA_TOKEN_ENV,
                rule="a file with the service account's token",
                remedy="correct the path, or give a token by OSFT_KFP_TOKEN",
            )
    if not host and namespace.is_file():
        host = SERVER.format(namespace=namespace.read_text(encoding="utf-8").strip())
        service_ca = service_account / "service-ca.crt"
        ca = ca or (str(service_ca) if service_ca.is_file() else "")
    if not token and not token_file and (config := _kubeconfig(environment)):
        login = _login(config)
        host = host or _server_of_project(login, config)
        if host.startswith("https://") or urlsplit(host).hostname in ("127.0.0.1", "localhost", "::1"):
            token = login.configuration.api_key.get("authorization", "").removeprefix("Bearer ")
    host = host.rstrip("/")
    _check_host(host, checks)
    _check_token(token, checks)
    _check_ca(ca, checks)
    runs_page = runs_page.rstrip("/")
    if runs_page and not is_page(runs_page):
        checks.add(
            f"the dashboard's page is {quote_address(runs_page)}",
            where="--dashboard, OSFT_KFP_DASHBOARD, notify.runs_page of the cluster file",
            rule="the page of the project's runs, as the browser shows its address: https://...PROJECT/runs",
            remedy="for instance https://DASHBOARD/develop-train/pipelines/runs/PROJECT/runs",
        )
    checks.raise_if_any()
    return Access(host=host, token=token, token_file=token_file, ca=ca, runs_page=runs_page)


def _check_host(host: str, checks: Checks) -> None:
    remedy = "for instance --host https://ds-pipeline-dspa-PROJECT.apps.CLUSTER, as oc get route ds-pipeline-dspa shows"
    rule = "http:// or https:// with a host, without user, password or query"
    try:
        parts = urlsplit(host)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        whole = whole and not (parts.username or parts.password or parts.query or parts.fragment)
        whole = whole and host.isprintable() and " " not in host
    except ValueError:  # brackets or a port that cannot be
        whole = False
    if not host:
        checks.add("no KFP API is named", where="--host, OSFT_KFP_HOST, the login with oc", rule=rule, remedy=remedy)
    elif not whole:
        shown = "this" if set("@?#") & set(host) else quote(host)  # it may hold a password
        checks.add(f"{shown} is no address", where="--host", rule=rule, remedy=remedy)


def _check_token(token: str, checks: Checks) -> None:
    if not token.isascii() or not token.isprintable() or " " in token:
        checks.add(
            "the token has blanks, line breaks or characters that no token has",
            where="--token, OSFT_KFP_TOKEN",
            rule="one word",
            remedy="give the token alone: OSFT_KFP_TOKEN=$(oc whoami --show-token)",
        )


def _check_ca(ca: str, checks: Checks) -> None:
    if not ca:
        return
    try:
        ssl.create_default_context(cafile=ca)
    except OSError as error:  # also ssl.SSLError
        what = f"cannot be read: {error.strerror}" if not isinstance(error, ssl.SSLError) else "holds no certificate"
        checks.add(
            f"the file {ca} {what}",
            where="--ca",
            rule="a PEM file with the certificate authorities to trust",
            remedy="ask the cluster's administrators for it; on OpenShift it is in the config map kube-root-ca.crt",
        )


def _kubeconfig(environment: Mapping[str, str]) -> str:
    """The paths of the user's kubeconfig that exist."""
    paths = environment.get("KUBECONFIG") or str(Path(environment.get("HOME", "/")) / ".kube" / "config")
    return os.pathsep.join(path for path in paths.split(os.pathsep) if path and Path(path).is_file())


def _login(config: str) -> Any:
    """The client of the cluster that the user is logged in to, with the context that is current."""
    import yaml
    from kubernetes.config import ConfigException, new_client_from_config

    try:
        return new_client_from_config(config_file=config)
    except (ConfigException, yaml.YAMLError, OSError, TypeError, AttributeError):  # whatever the file holds
        raise problem(
            f"the kubeconfig {config} cannot be used",
            where="kubeconfig",
            rule="a file with a current context, as oc login writes it",
            remedy="run oc login, or give OSFT_KFP_HOST and OSFT_KFP_TOKEN",
        ) from None


def _server_of_project(login: Any, config: str) -> str:
    """The address of the pipelines server of the project that the user is in; empty when that cannot be found out."""
    from kubernetes.client import CustomObjectsApi
    from kubernetes.client.exceptions import ApiException
    from kubernetes.config import list_kube_config_contexts

    try:
        _, context = list_kube_config_contexts(config)
        found = CustomObjectsApi(login).list_namespaced_custom_object(
            "datasciencepipelinesapplications.opendatahub.io",
            "v1",
            context["context"].get("namespace", "default"),
            "datasciencepipelinesapplications",
            _request_timeout=10,
        )
    except (ApiException, urllib3.exceptions.HTTPError) as error:
        if getattr(error, "status", 0) == 401:
            raise problem(
                "the login with oc has expired",
                where=f"kubeconfig {config}",
                rule="a login that the cluster accepts",
                remedy="run oc login, or give OSFT_KFP_HOST and OSFT_KFP_TOKEN",
            ) from None
        return ""
    addresses = [
        item.get("status", {}).get("components", {}).get("apiServer", {}).get("externalUrl", "")
        for item in found.get("items", [])
    ]
    return str(addresses[0]) if len(addresses) == 1 else ""


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


def _refused(error: Any, access: Access, attempts: int, first: bool) -> Refused:
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
    return Refused(found, status, passing)


def _unanswered(error: Exception, access: Access, attempts: int) -> Refused:
    """What it means that there is no answer, or none of a KFP API."""
    reason = getattr(error, "reason", None) or error
    if isinstance(error, _NoKfpAnswer):
        return Refused(_no_kfp(access, f"it answers with {error}"), 0, passing=False)
    if isinstance(reason, urllib3.exceptions.SSLError | ssl.SSLError):
        found = problem(
            f"the host's certificate is not trusted: {printable(str(reason))[:LONGEST_MESSAGE]}",
            where=access.host,
            rule="a certificate of a known authority" if not access.ca else f"a certificate of those in {access.ca}",
            remedy="give the cluster's certificate authority: --ca FILE.pem or OSFT_KFP_CA",
        )
        return Refused(found, 0, passing=False)
    remedy = "check the address, the network and the proxy (HTTPS_PROXY does not apply)"
    rule = "a host that can be reached"
    if isinstance(reason, urllib3.exceptions.NameResolutionError):
        return Refused(problem("the host is not known", where=access.host, rule=rule, remedy=remedy), 0, passing=False)
    if isinstance(reason, urllib3.exceptions.NewConnectionError):  # to urllib3 this is a time-out, too
        what = "the host cannot be reached"
    elif isinstance(reason, urllib3.exceptions.TimeoutError):
        what = "the host does not answer in time"
    else:
        what = "the connection broke"
    attempted = f"{what} ({attempts} attempt{'s' if attempts > 1 else ''})"
    return Refused(problem(attempted, where=access.host, rule=rule, remedy=remedy), 0, passing=True)


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
                return f": {printable(text)[:LONGEST_MESSAGE]}"
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
