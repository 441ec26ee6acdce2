"""What the values of a cluster file may be: Kubernetes' forms, and bounds below which a step could not run.

"gpu.count" names one value, "retries.*" each of a table, "gpu.tolerations" a list as a whole.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from components.run.publication import REGISTRY_RULE, registry_address
from components.shared.addresses import is_plain_address
from components.shared.problems import Checks, Problems, quote, quote_address

MAX_TIMEOUT_SECONDS = 30 * 86400  # with all its retries it still fits into Argo's durations
MAX_RETRIES = 100

# Kubernetes takes more forms of quantities, fractions of a byte among them; KFP's compiler takes these.
BYTES = re.compile(r"[1-9]\d*([KMGTPE]i|[MGTPE])?", re.ASCII)
CPU = re.compile(r"(?=.*[1-9])(\d+m|\d*\.?\d+)", re.ASCII)
HOST_NAME = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[1-9]\d{0,4})?", re.ASCII)
COUNT = re.compile(r"0|[1-9]\d{0,2}", re.ASCII)
SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
WORD = r"[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?"
OBJECT_NAME = re.compile(rf"(?=.{{1,253}}$){SUBDOMAIN}", re.ASCII)
KEY = re.compile(rf"({SUBDOMAIN}/)?{WORD}", re.ASCII)
LABEL = re.compile(rf"({WORD})?", re.ASCII)
FOLDER = re.compile(r"(/(?!\.\.?(/|$))[\w.-]+)+", re.ASCII)

TOLERATION = ("key", "operator", "value", "effect")
OPERATORS = ("Exists", "Equal")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def registry_host(image: str) -> str:
    """The host that an image's name begins with; empty when the node that pulls it would have to guess one."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else ""


def is_page(address: str) -> bool:
    """Whether this can be the dashboard's page of a project's runs."""
    return is_plain_address(address) and address.endswith("/runs")


def check_values(values: dict[str, Any], where: str, checks: Checks) -> None:
    """Add a problem for each value of a whole cluster file that the cluster could not use."""
    for name, (rule, holds) in RULES.items():
        for found, value in _values_of(values, name):
            if not holds(value) and not (found == "gpu.memory_gib" and values["gpu"]["count"] == "0"):
                checks.add(f"{found} is {quote_address(value)}", where=where, rule=rule, remedy=f"correct {found}")
    for table in ("labels", "annotations", "gpu.node_selector"):
        for _, keys in _values_of(values, table):
            for key in (key for key in keys if not KEY.fullmatch(key)):
                checks.add(f"{table} has the key {quote(key)}", where=where, rule=_KEYS, remedy="correct the key")


def _values_of(values: Any, name: str, before: str = "") -> Iterator[tuple[str, Any]]:
    first, _, rest = name.partition(".")
    for key in values if first == "*" else [first]:
        if rest:
            yield from _values_of(values[key], rest, f"{before}{key}.")
        else:
            yield f"{before}{key}", values[key]


def _is_registry(url: str) -> bool:
    try:
        registry_address(url)
    except Problems:
        return False
    return True


def _tolerates(toleration: Any) -> bool:
    if not isinstance(toleration, dict) or not set(toleration) <= set(TOLERATION):
        return False
    if not all(isinstance(value, str) for value in toleration.values()):
        return False
    key, value = toleration.get("key", ""), toleration.get("value", "")
    operator, effect = toleration.get("operator", "Equal"), toleration.get("effect", EFFECTS[0])
    whole = operator in OPERATORS and effect in EFFECTS and bool(LABEL.fullmatch(value))
    return whole and (not value if operator == "Exists" else bool(key)) and (not key or bool(KEY.fullmatch(key)))


def _fits(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: bool(pattern.fullmatch(value))


def _empty_or(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value == "" or holds(value)


_IMAGE = (
    "an image's name with its registry's host, as in registry.example.com/ai/osft-pipeline/cpu@sha256:...",
    lambda name: bool(registry_host(name)) and re.fullmatch(r"[\w.:/@-]+", name, re.ASCII) is not None,
)
_OBJECT = ("an object's name: lower-case letters, digits, dashes and dots", _fits(OBJECT_NAME))
_OBJECT_OR_NONE = (f"{_OBJECT[0]}; or empty", _empty_or(_OBJECT[1]))
_HOSTS = (
    'hosts in lower case, each with or without a port, as in ["judge.example.com", "10.2.3.4:8080"]',
    lambda hosts: all(isinstance(host, str) and HOST_NAME.fullmatch(host) for host in hosts),
)
_KEYS = "a label's name as Kubernetes has it: up to 63 letters, digits, dashes and dots, with or without DOMAIN/ before"
_LABEL = (
    'a string in quotes, as in "4711": up to 63 letters, digits, dashes and dots',
    lambda value: isinstance(value, str) and bool(LABEL.fullmatch(value)),
)

RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "images.cpu": _IMAGE,
    "images.gpu": _IMAGE,
    "images.pull_secret": _OBJECT_OR_NONE,
    "workspace.claim": _OBJECT,
    "workspace.mount_path": ("an absolute path, and not the root", _fits(FOLDER)),
    "gpu.count": ('an integer in quotes, as in "1"; "0" for a trial on the CPU', _fits(COUNT)),
    "gpu.resource": ("a resource's name, as in nvidia.com/gpu", _fits(KEY)),
    "gpu.memory_gib": ("a number above 0", lambda value: math.isfinite(value) and value > 0),
    "gpu.shared_memory": ("bytes as in 8Gi", _fits(BYTES)),
    "gpu.node_selector.*": _LABEL,
    "gpu.tolerations": (
        f"tables with {', '.join(TOLERATION)}, all strings; a key, and no value with the operator Exists, which "
        f"alone needs no key; the operator {' or '.join(OPERATORS)}; the effect {', '.join(EFFECTS)}",
        lambda tolerations: all(map(_tolerates, tolerations)),
    ),
    "model_registry.url": (f"{REGISTRY_RULE}; or empty", _is_registry),
    "reach.judge_hosts": _HOSTS,
    "reach.private_data_hosts": _HOSTS,
    "notify.runs_page": (
        "the page of the project's runs, as the browser shows its address: https://...PROJECT/runs; or empty",
        _empty_or(is_page),
    ),
    "kueue.queue": _OBJECT_OR_NONE,
    "labels.*": _LABEL,
    "annotations.*": ("a string in quotes", lambda value: isinstance(value, str)),
    "secrets.*": _OBJECT,
    "resources.*.cpu": ('processors as in "8", "0.5" or "500m", more than none', _fits(CPU)),
    "resources.*.memory": ('bytes as in "64Gi"', _fits(BYTES)),
    "timeout_seconds.*": (
        f"an integer from 1 to {MAX_TIMEOUT_SECONDS}, which is a month",
        lambda value: 1 <= value <= MAX_TIMEOUT_SECONDS,
    ),
    "retries.*": (f"an integer from 0 to {MAX_RETRIES}", lambda value: 0 <= value <= MAX_RETRIES),
}
"""What a value must be, in words and as a check, by its name."""
