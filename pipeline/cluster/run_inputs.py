"""What a run on a cluster reads: addresses that its pods can reach, names that its steps can use, and no secrets.

KFP keeps parameters and shows them to everybody who may see runs. So an address with a password or a signature in it
is refused here, and never repeated.
"""

import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from components.data import mmlu
from components.format_chat.core import check_system_prompt
from components.run.lineage import check_start
from components.run.publication import registered_name
from components.shared.addresses import may_hold_secret
from components.shared.problems import Checks, quote
from components.shared.reach import is_below, outside
from components.snapshot_model.core import HUB_NAME

ADDRESS = re.compile(r"/|file:///|(https?|s3)://\S", re.IGNORECASE)
FILE = "file://"
OBJECT_STORE = re.compile(r"s3://\S")
REVISION = re.compile(r"\S+")


def check_inputs(values: Mapping[str, Any], volume: str, checks: Checks) -> None:
    """Add a problem for each text that the steps could make nothing of, or that KFP must not keep. Parameters come
    with their defaults; those that were found wrong already are left out. `volume` is where the steps have the
    workspace volume; empty when that is not known."""
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    if texts.get("judge_url") or not texts.get("judge_model"):
        texts.pop("judge_model", None)  # a name at an endpoint, or the base model
    for name, (holds, rule, remedy) in _RULES.items():
        if name not in texts:
            continue
        if may_hold_secret(texts[name]):
            checks.add(
                f"{name} is an address with a user, a password, a query or a parameter, which is not repeated here",
                where=f"parameter {name}",
                rule="KFP keeps parameters and shows them: an address in one holds no secret",
                remedy="give an s3:// address, whose keys are in a Kubernetes secret, or copy it to the workspace",
            )
        elif not holds(texts[name]):
            checks.add(f"{name} is nothing that a pod could use", where=f"parameter {name}", rule=rule, remedy=remedy)
        elif volume and (path := _path_of(texts[name])) and not is_below(path, volume):
            with checks.collecting():
                raise outside(f"{name} is {quote(texts[name])}", volume, f"parameter {name}")
    with checks.collecting():
        check_system_prompt(texts.get("system_prompt", ""))
    if "start_from" in texts:
        with checks.collecting():
            check_start(texts["start_from"])
    own_name, model = texts.get("publish_as", ""), texts.get("model", "")
    if own_name or _is_model(model):  # without a name of its own it is published under the base model's
        with checks.collecting():
            registered_name(own_name, model)


def _path_of(address: str) -> str:
    """The path that an address means, without ..; empty for an address elsewhere, or a name."""
    path = unquote(address[len(FILE) :]) if address.lower().startswith(FILE) else address
    return posixpath.normpath(path) if path.startswith("/") else ""


def _is_model(model: str) -> bool:
    on_the_hub = HUB_NAME.fullmatch(model) and not model.startswith(("./", "../"))
    return bool(on_the_hub) or model.startswith("/") or bool(OBJECT_STORE.match(model))


_TABLE = (
    lambda address: bool(ADDRESS.match(address)),
    "an absolute path on the workspace volume, or an address: https://, s3://",
    "for instance /mnt/osft/qa.csv, or s3://bucket/qa.csv",
)
_MODEL = (
    _is_model,
    "organisation and name on a hub, one slash between; an absolute path on the workspace volume; s3://bucket/folder",
    "for instance ibm-granite/granite-3.2-8b-instruct, or /mnt/osft/uploads/my-model",
)
_RULES: dict[str, tuple[Callable[[str], bool], str, str]] = {
    "data": _TABLE,
    "questions": _TABLE,
    "retention_questions": (
        lambda address: address in ("", mmlu.NAME) or _TABLE[0](address),
        f"{_TABLE[1]}; mmlu, if the images have lm-eval; or empty",
        _TABLE[2],
    ),
    "model": _MODEL,
    "judge_model": _MODEL,
    "revision": (
        lambda revision: bool(REVISION.fullmatch(revision)),
        "a branch, tag or commit of the model on the hub",
        "for instance main, or leave the parameter out",
    ),
}
"""Of each parameter: what it may be, as a check and in words, and the remedy."""
