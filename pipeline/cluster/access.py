"""Where a cluster's KFP API is and who asks: given, a pod's service account, or the login with oc."""

import dataclasses
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import urllib3
from kfp import client as kfp_client

from components.shared.calls import Deadline, OutOfTime
from components.shared.problems import Checks, problem, quote, quote_address
from pipeline.settings_rules import is_page

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")  # Kubernetes mounts it into every pod
API_SECONDS = 10
SERVER = "https://ds-pipeline-dspa.{namespace}.svc.cluster.local:8443"  # OpenShift AI's, inside the cluster


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
    Raises Problems naming everything that is wrong or missing."""
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
    except (
        ConfigException,
        yaml.YAMLError,
        OSError,
        TypeError,
        AttributeError,
        ValueError,
        RecursionError,
    ):  # whatever the file holds
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
        found = Deadline(API_SECONDS).call(
            lambda: CustomObjectsApi(login).list_namespaced_custom_object(
                "datasciencepipelinesapplications.opendatahub.io",
                "v1",
                context["context"].get("namespace", "default"),
                "datasciencepipelinesapplications",
                _request_timeout=API_SECONDS,
            )
        )
    except (ApiException, urllib3.exceptions.HTTPError, OutOfTime) as error:
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
