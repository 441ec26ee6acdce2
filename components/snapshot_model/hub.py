"""A model on a hub, through huggingface_hub's client: HF_ENDPOINT names the hub, HF_TOKEN opens what is not public.

The client holds the connections and knows the addresses and the errors. What the hub answers is read here, within
bounds: the client's own downloads begin again at the first byte after a failure, and wait for as long as the hub asks.
"""

import contextlib
import functools
import json
import os
import re
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote as in_address
from urllib.parse import urlsplit

from components.shared.calls import OutOfTime, TooLong, bound_replies, count_of, join, retry_after_seconds
from components.shared.problems import Problems, problem, quote
from components.shared.workspace import COMMIT
from components.snapshot_model.model_source import (
    MAX_FILE_BYTES,
    FileInfo,
    RetryPolicy,
    Source,
    Unreachable,
    card_fields,
)

Answer = TypeVar("Answer")

MODEL_INFO_TIMEOUT_SECONDS = 60.0  # until a hub that does not say what a model holds counts as unreachable
MAX_INFO_BYTES = 1 << 25  # of a description, which names every file
MAX_ERROR_BYTES = 1 << 20
RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", re.ASCII)
ENDPOINT = "HF_ENDPOINT"
IF_DAMAGED = "run again; if it stays, a proxy or mirror in between changes files"
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # git's blob id, sha256
RULE = "the model must be readable on the hub with the token in HF_TOKEN, if it needs one"


def open_model(name: str, revision: str) -> Source:
    """What the hub holds under org/name at a branch, a tag or a commit. Raises Unreachable when the hub gives no
    answer, or only errors of its own, and Problems when it answers that the model cannot be had."""
    if os.environ.get(ENDPOINT) == "":  # a secret's empty value; the client would take it for an address
        del os.environ[ENDPOINT]
    from huggingface_hub import constants

    where = f"{name} at revision {revision}, hub {hub_name()}"
    if is_offline():
        raise Unreachable("HF_HUB_OFFLINE is set")
    if urlsplit(constants.ENDPOINT).scheme not in ("http", "https"):
        raise problem(
            f"{ENDPOINT} is no address of a hub",
            where=where,
            rule="an address begins with https://",
            remedy="correct it, or leave it out for the hub itself",
        )

    def describe() -> dict[str, Any]:
        with _explaining_errors(name, revision, where):
            return _fetch_model_info(name, revision, where)

    info = _ask(describe, f"asking the hub for {name}")
    commit = info["sha"]

    def ask_about(file: str) -> FileInfo:
        def ask() -> FileInfo:
            with _explaining_errors(name, commit, f"{where}, {file}"):
                return _fetch_file_info(name, commit, file, where)

        try:
            return _ask(ask, f"asking the hub for {file}")
        except Unreachable as error:
            raise problem(str(error), where=where, rule=RULE, remedy="run again later", may_pass=True) from None

    files = _Files(_described_files(info, where), ask_about)

    def read(file: str, offset: int, end: int) -> Generator[bytes, None, None]:
        with _explaining_errors(name, commit, f"{where}, {file}"):
            yield from _read(name, commit, file, offset, end, files[file].size, where)

    return Source(
        name=name,
        revision=revision,
        commit=commit,
        where=f"{name} at {commit[:12]}, hub {hub_name()}",
        if_damaged=IF_DAMAGED,
        files=files,
        card=card_fields(info.get("cardData")),
        read=read,
    )


class _Files(Mapping[str, FileInfo]):
    """A model's files by name. Some mirrors state size and digest only with the file itself: such a file is asked
    about when it is wanted."""

    def __init__(self, described: dict[str, FileInfo | None], ask: Callable[[str], FileInfo]) -> None:
        self._described, self._ask = described, ask

    def __getitem__(self, name: str) -> FileInfo:
        info = self._described[name] or self._ask(name)
        self._described[name] = info
        return info

    def __iter__(self) -> Iterator[str]:
        return iter(self._described)

    def __len__(self) -> int:
        return len(self._described)


def is_offline() -> bool:
    """Whether the user has switched the hub off."""
    from huggingface_hub import constants

    return constants.is_offline_mode()


def hub_name() -> str:
    """The hub's address to show: without a user and password that HF_ENDPOINT may hold."""
    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _ask(call: Callable[[], Answer], what: str) -> Answer:
    """Ask until there is an answer. Raises Unreachable when there is none in time."""
    retry = RetryPolicy(MODEL_INFO_TIMEOUT_SECONDS, threading.Event())
    while True:
        try:
            return retry.deadline.call(call)
        except OutOfTime:
            raise Unreachable(f"the hub gave no whole answer in {MODEL_INFO_TIMEOUT_SECONDS:.0f} s") from None
        except Unreachable as error:
            retry.wait(error, what)


def _session() -> Any:
    """The client's connections. Errors and redirects, which it reads whole, are bounded."""
    from huggingface_hub import get_session

    session = get_session()
    if _bound_errors() not in session.event_hooks["response"]:
        session.event_hooks = {**session.event_hooks, "response": [_bound_errors(), *session.event_hooks["response"]]}
    return session


@functools.cache
def _bound_errors() -> Callable[[Any], None]:
    return bound_replies(MAX_ERROR_BYTES, only=lambda response: response.status_code >= 300)


@contextlib.contextmanager
def _answer(address: str, **more: str) -> Iterator[Any]:
    """A good answer, of which the head has come."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    headers = {**build_hf_headers(library_name="osft-pipeline"), "Accept-Encoding": "identity", **more}
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with _session().stream("GET", address, headers=headers, timeout=timeout) as response:
        hf_raise_for_status(response)
        if response.status_code not in (200, 206):
            raise Unreachable(f"the hub answered {response.status_code}")
        yield response


def _fetch_model_info(name: str, revision: str, where: str) -> dict[str, Any]:
    """The hub's description of a model, with a commit."""
    from huggingface_hub import constants
    from huggingface_hub.utils import validate_repo_id

    validate_repo_id(name)
    address = f"{constants.ENDPOINT}/api/models/{name}/revision/{in_address(revision, safe='')}?blobs=true"
    with _answer(address) as response:
        try:
            info = json.loads(join(response.iter_bytes(), MAX_INFO_BYTES))
        except (ValueError, RecursionError, TooLong):
            info = None
    # What it calls a commit becomes the name of a folder.
    if not isinstance(info, dict) or not isinstance(info.get("sha"), str) or not COMMIT.fullmatch(info["sha"]):
        raise _no_hub(where)
    return info


def _no_hub(where: str) -> Problems:
    return problem(
        "the answer is not that of a hub",
        where=where,
        rule="HF_ENDPOINT is the address of a hub, or of a mirror that answers as one",
        remedy="correct HF_ENDPOINT; a proxy that asks for a login answers with a page of its own",
    )


def _described_files(info: dict[str, Any], where: str) -> dict[str, FileInfo | None]:
    """Each file of a description; None where it states no size."""
    described: dict[str, FileInfo | None] = {}
    try:
        for file in info.get("siblings") or []:
            name, size, lfs = file["rfilename"], file.get("size"), file.get("lfs")
            digest = lfs["sha256"] if lfs else file.get("blobId")
            if not isinstance(name, str):
                raise TypeError
            described[name] = None if size is None else _file_info(size, digest, where)
    except (AttributeError, KeyError, TypeError):
        raise _no_hub(where) from None
    return described


def _file_info(size: Any, digest: Any, where: str) -> FileInfo:
    if type(size) is not int or not 0 <= size <= MAX_FILE_BYTES or not isinstance(digest, str | None):
        raise _no_hub(where)
    digest = (digest or "").lower()
    return FileInfo(size=size, digest=digest if DIGEST.fullmatch(digest) else "")


def _fetch_file_info(name: str, commit: str, file: str, where: str) -> FileInfo:
    """What a mirror says with the file itself."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    _session()
    metadata = get_hf_file_metadata(hf_hub_url(name, file, revision=commit))
    return _file_info(metadata.size or 0, metadata.etag, where)


def _read(name: str, commit: str, file: str, offset: int, end: int, size: int, where: str) -> Iterator[bytes]:
    """One answer of the hub. The client leaves the token out when it is redirected to another host."""
    from huggingface_hub import hf_hub_url

    address = hf_hub_url(name, file, revision=commit)
    part = f"bytes={offset}-{end - 1 if end < size else ''}"
    with _answer(address, **({"Range": part} if offset or end < size else {})) as response:
        skipped = offset - _first_byte(response, offset)
        found = _whole_size(response.headers)
        if found not in (None, size):
            raise problem(
                f"{file} has another length: {found} bytes",
                where=where,
                rule=f"the hub says that it has {size} bytes",
                remedy=IF_DAMAGED,
                may_pass=True,
            )
        for piece in response.iter_bytes():
            left = piece[skipped:]
            skipped = max(0, skipped - len(piece))
            if left:
                yield left


def _first_byte(response: Any, offset: int) -> int:
    """Where in the file an answer begins: a server that knows no ranges sends all of it."""
    if response.status_code == 200:
        return 0
    header = response.headers.get("Content-Range", "")
    part = RANGE.fullmatch(header)
    if not part or int(part[1]) != offset:
        raise Unreachable(f"the hub sends {quote(header or 'a part')} where bytes from {offset} on were asked for")
    return offset


def _whole_size(headers: Mapping[str, str]) -> int | None:
    """The length of a file, of which an answer may be a part; None where it is not stated for the file itself."""
    if headers.get("Content-Encoding", "identity") != "identity":
        return None
    return count_of(headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", ""))


@contextlib.contextmanager
def _explaining_errors(name: str, revision: str, where: str) -> Iterator[None]:
    """Turn what the hub's client raises into one error that says what to do, or into Unreachable."""
    from huggingface_hub import errors, get_token

    may_pass = False
    try:
        yield
    except errors.GatedRepoError:
        what = "access to the model is restricted"
        remedy = f"accept its terms on {hub_name()}/{name} with your account there, then set HF_TOKEN to its token"
    except errors.RevisionNotFoundError:
        what, remedy = f"there is no revision {quote(revision)}", "use a branch, a tag or a commit of the model"
    except errors.RemoteEntryNotFoundError:
        what, remedy = "the hub lists the file and does not have it", "run again, or name another mirror in HF_ENDPOINT"
        may_pass = True
    except errors.HfHubHTTPError as error:
        what, remedy = _explain_answer(error, name, has_token=get_token() is not None)
    except errors.HFValidationError as error:
        what, remedy = f"{quote(name)} is no name on a hub: {error}", "correct org/name"
    except errors.HTTPError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if "CERTIFICATE_VERIFY_FAILED" not in reason:
            raise Unreachable(f"the hub cannot be reached: {reason}") from None
        what = "the hub's certificate is not trusted"
        remedy = "set SSL_CERT_FILE to the certificate authorities of your company"
    else:
        return
    raise problem(what, where=where, rule=RULE, remedy=remedy, may_pass=may_pass)


def _explain_answer(error: Any, name: str, has_token: bool) -> tuple[str, str]:
    """What an answer with an error means, and the remedy. Raises Unreachable when another attempt may succeed."""
    from huggingface_hub import errors

    status = error.response.status_code
    if status in (408, 429) or status >= 500:
        raise Unreachable(f"the hub answered {status}", _seconds_to_wait(error.response.headers)) from None
    if status == 401 and has_token:
        return "the hub does not accept the token", "set HF_TOKEN to a valid token that may read the model"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return "there is no such model, or it is private", "correct org/name, or set HF_TOKEN for a private one"
    if status == 403:
        return "the token may not read the model", f"give the token of HF_TOKEN the right to read {name}"
    return f"the hub answered {status}", "run again later; what is complete in the workspace stays"


def _seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """How long the hub asks to wait: in its own header for limits, or in that of HTTP."""
    from huggingface_hub.utils import parse_ratelimit_headers

    asked = retry_after_seconds(headers)
    with contextlib.suppress(ValueError, OverflowError):
        limit = parse_ratelimit_headers(headers)
        if asked is None and limit and limit.remaining == 0:
            return float(limit.reset_in_seconds)
    return asked
