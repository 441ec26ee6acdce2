"""What a step may reach, whatever its parameters say.

On a cluster the compiled pipeline says it by variables, which pipeline/placement.py sets from the cluster file:

    OSFT_WORKSPACE=/mnt/osft                     data, questions and models lie below it, or at an address
    OSFT_PRIVATE_DATA_HOSTS=minio.team.svc       hosts with private addresses that data may come from
    OSFT_JUDGE_HOSTS=judge.example.com,10.2.3.4:8080    hosts that may be a judge; the secret's JUDGE_HOSTS are, too

On a laptop they are unset: everything of the user's own may be read. Nowhere is anything read from /proc, /dev or a
folder in which Kubernetes mounts secrets. The object store and the hub are those that their secret names.
"""

import ipaddress
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from components.shared.addresses import may_hold_secret
from components.shared.problems import Problems, problem, quote

WORKSPACE, DATA_HOSTS, JUDGE_HOSTS = "OSFT_WORKSPACE", "OSFT_PRIVATE_DATA_HOSTS", "OSFT_JUDGE_HOSTS"
HOSTS_OF_SECRET = "JUDGE_HOSTS"  # noqa: S105 - the name of a variable
NEVER = ("/proc", "/sys", "/dev", "/var/run/secrets", "/run/secrets")
PLACE = "path of data, questions or a model"
NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_on_cluster() -> bool:
    """Whether this is a step in a pod."""
    return bool(os.environ.get(WORKSPACE))


def check_address(address: str) -> None:
    """Refuse in a pod an address that may hold a secret. Raises Problems, without repeating it."""
    if is_on_cluster() and may_hold_secret(address):
        raise problem(
            "an address has a user, a password, a query or a parameter, and is not repeated here",
            where="parameters data, questions, retention_questions, model, judge_model",
            rule="KFP keeps parameters and shows them: an address in one holds no secret",
            remedy="give an s3:// address, whose keys are in a Kubernetes secret, or copy it to the workspace; and "
            "replace the secret: whoever may see the run has seen it",
        )


def check_path(path: str | Path) -> None:
    """Refuse what lies where no step reads; in a pod whatever lies outside of the workspace volume. Links are resolved.
    Raises Problems."""
    given = os.path.abspath(path)
    real, volume = os.path.realpath(given), os.environ.get(WORKSPACE, "")
    shown = PLACE if may_hold_secret(str(path)) else f"{PLACE}, {str(path)!r}"
    if is_below(given, *_never()) or is_below(real, *_never()):
        what = "this lies" if is_below(given, *_never()) else "this is a link to what lies"
        raise problem(
            f"{what} where the system or Kubernetes keeps its own",
            where=shown,
            rule=f"no step reads from {', '.join(NEVER)}",
            remedy="name a file of your own",
        )
    if volume and not is_below(real, os.path.realpath(volume)):
        what = "this is a link out of" if is_below(given, volume) else "this does not lie on"
        raise outside(f"{what} the workspace volume", volume, shown)


def outside(what: str, volume: str, where: str) -> Problems:
    """The error about a path that pods do not read."""
    return problem(
        what,
        where=where,
        rule=f"on a cluster a path lies on the workspace volume, below {volume}, where its links lead, too",
        remedy=f"copy it to {volume} (docs/install-openshift-ai.md, 7. Data), or give an s3:// or https:// address",
    )


def is_below(path: str, *folders: str) -> bool:
    """Whether a path without .. is one of the folders or below it."""
    return any(path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in folders)


def check_judge(url: str) -> None:
    """Refuse in a pod a judge at a host that neither its secret nor the cluster file names: it would get the key, the
    questions and the answers. Raises Problems."""
    hosts = _hosts(JUDGE_HOSTS) | _hosts(HOSTS_OF_SECRET)
    parts = urlsplit(url)
    port = parts.port or {"http": 80}.get(parts.scheme, 443)
    if url and is_on_cluster() and not _is_named(parts.hostname or "", port, hosts):
        raise problem(
            f"the judge's host {quote(parts.netloc)} is not one that the cluster names",
            where="parameter judge_url",
            rule="a judge gets its key, the questions and the answers: its secret (JUDGE_HOSTS) or the cluster file "
            f"(reach.judge_hosts) names its host; named now: {', '.join(sorted(hosts)) or 'none'}",
            remedy="ask the owner of the cluster file to name it, or leave judge_url empty for a judge on the GPU",
        )


def is_private(address: str) -> bool:
    """Whether an IP address is none of the public internet: private, of this machine, link-local, multicast; also
    where an IPv6 address stands for such an IPv4 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_private(str(inner))
    return not ip.is_global or ip.is_multicast


async def open_session(shown: str, **options: Any) -> Any:
    """An aiohttp.ClientSession that in a pod connects to public addresses only, and to hosts that the cluster file
    names. Each connection is looked at, so that redirects and names that lead inside are, too. Behind a proxy the
    proxy decides. Raises Problems when a connection is refused; `shown` is the address for the error."""
    import aiohttp

    if not is_on_cluster():
        return aiohttp.ClientSession(**options)
    named = _hosts(DATA_HOSTS)
    proxies = {
        urlsplit(address if "://" in address else f"//{address}").hostname or "" for address in getproxies().values()
    }
    allowed = {host for host in named | proxies if _is_ip(host)}

    class Resolver(aiohttp.ThreadedResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_UNSPEC) -> Any:
            found = await super().resolve(host, port, family)
            if host in proxies or _is_named(host, port, named):
                allowed.update(result["host"] for result in found)
            return found

    def connect(info: Any) -> socket.socket:
        family, kind, protocol, _, (address, *_) = info
        if is_private(address) and address not in allowed:
            raise _private(address, shown)
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(resolver=Resolver(), socket_factory=connect, happy_eyeballs_delay=None)
    return aiohttp.ClientSession(connector=connector, **options)


def _private(address: str, shown: str) -> Problems:
    return problem(
        f"the address leads to {address}, which is private",
        where=shown,
        rule="data comes from the internet, the secret's object store, and private hosts that the cluster file names",
        remedy="copy it to the workspace or the object store; or let the owner of the cluster file name its host: "
        "reach.private_data_hosts",
    )


def _never() -> list[str]:
    return [*NEVER, *map(os.path.realpath, NEVER)]


def _hosts(variable: str) -> set[str]:
    return {host.strip().lower() for host in os.environ.get(variable, "").split(",") if host.strip()}


def _is_named(host: str, port: int, hosts: set[str]) -> bool:
    shown = f"[{host}]" if ":" in host else host
    return bool({host.lower(), shown.lower(), f"{shown}:{port}".lower()} & hosts)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
