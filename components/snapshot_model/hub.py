"""A model on a hub, through huggingface_hub's client: HF_ENDPOINT names the hub, HF_TOKEN opens what is not public.

The client describes the model, holds the connections and knows the errors. A file's bytes are read here: the client's
own downloads begin again at the first byte after a failure, and wait for as long as the hub asks.
"""

import contextlib
import email.utils
import os
import re
import threading
from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from components.shared.problems import Problems, problem, quote
from components.shared.workspace import COMMIT
from components.snapshot_model.model_source import FileInfo, RetryPolicy, Source, Unreachable, card_fields

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

MODEL_INFO_TIMEOUT_SECONDS = 60.0  # until a hub that does not say what a model holds counts as unreachable
ENDPOINT = "HF_ENDPOINT"
IF_DAMAGED = "run again; if it stays, a proxy or mirror in between changes files"
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # git's blob id, sha256
RULE = "the model must be readable on the hub with the token in HF_TOKEN, if it needs one"


def open_model(name: str, revision: str) -> Source:
    """What the hub holds under org/name at a branch, a tag or a commit. Raises Unreachable when the hub gives no
    answer, or only errors of its own, and Problems when it answers that the model cannot be had."""
    if os.environ.get(ENDPOINT) == "":  # a secret's empty value; the client would take it for an address
        del os.environ[ENDPOINT]
    from huggingface_hub import HfApi, ModelCardData, constants

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
    retry = RetryPolicy(MODEL_INFO_TIMEOUT_SECONDS, threading.Event())
    while True:
        try:
            with _explaining_errors(name, revision, where):
                info = _fetch_model_info(HfApi(), name, revision, where)
                files = {sibling.rfilename: _file_info(name, info, sibling, where) for sibling in info.siblings or []}
            break
        except Unreachable as error:
            retry.wait(error, f"asking the hub for {name}")
    commit, card = str(info.sha), info.card_data

    def read(file: str, offset: int) -> Generator[bytes, None, None]:
        with _explaining_errors(name, commit, f"{where}, {file}"):
            yield from _read(name, commit, file, offset, files[file].size, where)

    return Source(
        name=name,
        revision=revision,
        commit=commit,
        where=f"{name} at {commit[:12]}, hub {hub_name()}",
        if_damaged=IF_DAMAGED,
        files=files,
        card=card_fields(card.to_dict() if isinstance(card, ModelCardData) else {}),
        read=read,
    )


def is_offline() -> bool:
    """Whether the user has switched the hub off."""
    from huggingface_hub import constants

    return constants.is_offline_mode()


def hub_name() -> str:
    """The hub's address to show: without a user and password that HF_ENDPOINT may hold."""
    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _fetch_model_info(api: Any, name: str, revision: str, where: str) -> "ModelInfo":
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError

    try:
        info = api.model_info(name, revision=revision, files_metadata=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
    except HFValidationError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError):
        info = None
    # What it calls a commit becomes the name of a folder.
    if info is None or not isinstance(info.sha, str) or not COMMIT.fullmatch(info.sha):
        raise _no_hub(where)
    return info


def _no_hub(where: str) -> Problems:
    return problem(
        "the answer is not that of a hub",
        where=where,
        rule="HF_ENDPOINT is the address of a hub, or of a mirror that answers as one",
        remedy="correct HF_ENDPOINT; a proxy that asks for a login answers with a page of its own",
    )


def _file_info(name: str, info: "ModelInfo", sibling: Any, where: str) -> FileInfo:
    """Size and digest of a file; some mirrors state neither in a model's description, only with the file itself."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    if not isinstance(sibling.rfilename, str):
        raise _no_hub(where)
    size, digest = sibling.size, sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    if size is None and "/" not in sibling.rfilename:
        metadata = get_hf_file_metadata(hf_hub_url(name, sibling.rfilename, revision=str(info.sha)))
        size, digest = metadata.size, metadata.etag
    size = 0 if size is None else size
    digest = "" if digest is None else digest
    if type(size) is not int or size < 0 or not isinstance(digest, str):
        raise _no_hub(where)
    digest = digest.lower()
    return FileInfo(size=size, digest=digest if DIGEST.fullmatch(digest) else "")


def _read(name: str, commit: str, file: str, offset: int, size: int, where: str) -> Iterator[bytes]:
    """One answer of the hub. The client leaves the token out when it is redirected to another host."""
    from huggingface_hub import constants, get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    headers = {**build_hf_headers(library_name="osft-pipeline"), "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={offset}-"} if offset else {}
    address = hf_hub_url(name, file, revision=commit)
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", address, headers=headers, timeout=timeout) as response:
        hf_raise_for_status(response)
        found = _whole_size(response.headers)
        if found not in (None, size):
            raise problem(
                f"{file} has another length: {found} bytes",
                where=where,
                rule=f"the hub says that it has {size} bytes",
                remedy=IF_DAMAGED,
                may_pass=True,
            )
        # A server that knows no ranges sends everything again.
        skipped = 0 if response.status_code == 206 else offset
        for piece in response.iter_bytes():
            left = piece[skipped:]
            skipped = max(0, skipped - len(piece))
            if left:
                yield left


def _whole_size(headers: Mapping[str, str]) -> int | None:
    """The length of a file, of which an answer may be a part; None where it is not stated for the file itself."""
    if headers.get("Content-Encoding", "identity") != "identity":
        return None
    text = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


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
        raise Unreachable(f"the hub answered {status}", _retry_after_seconds(error.response.headers)) from None
    if status == 401 and has_token:
        return "the hub does not accept the token", "set HF_TOKEN to a valid token that may read the model"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return "there is no such model, or it is private", "correct org/name, or set HF_TOKEN for a private one"
    if status == 403:
        return "the token may not read the model", f"give the token of HF_TOKEN the right to read {name}"
    return f"the hub answered {status}", "run again later; what is complete in the workspace stays"


def _retry_after_seconds(headers: Mapping[str, str]) -> float:
    """How long the hub asks to wait; a date is read against the hub's own clock, ours may be wrong."""
    from huggingface_hub.utils import parse_ratelimit_headers

    text = headers.get("Retry-After", "")
    limit = parse_ratelimit_headers(headers)
    if text.isdigit():
        return float(text)
    if limit and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    with contextlib.suppress(ValueError):
        until, now = (email.utils.parsedate_to_datetime(value) for value in (text, headers.get("Date", "")))
        return max(0.0, (until - now).total_seconds())
    return 0.0
