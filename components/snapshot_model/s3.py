"""A model in a folder of an object store; its commit is a hash over names, sizes and ETags of its files.

An object store states no sha256. The ETag of an object that was uploaded in one piece, and is not
encrypted with somebody's key, is its MD5: that is compared. Of others nothing is known but the length, and that the
ETag is the same before and after they were read. The snapshot's own sha256 is taken from what arrived.
"""

import re
from collections.abc import Generator
from fnmatch import fnmatch
from typing import Any

from components.models.folder import small_files
from components.models.headers import WEIGHTS
from components.shared import sources
from components.shared.calls import Deadline, OutOfTime
from components.shared.problems import Problems, problem
from components.shared.source_errors import broken, reading
from components.shared.sources import File
from components.shared.storage import sha256_of_json
from components.snapshot_model.local_source import CARD, MAX_FRONT_MATTER, read_card
from components.snapshot_model.model_source import MAX_FILE_BYTES, FileInfo, Source, Unreachable

ASK_SECONDS = 60.0  # about all files
MD5 = re.compile(r"[0-9a-f]{32}")


def folder_name(address: str) -> str:
    """The last part of an s3:// address, as the name of a folder."""
    return re.sub(r"[^\w.-]", "-", address.rstrip("/").rpartition("/")[2], flags=re.ASCII).lstrip(".") or "model"


def open_s3(address: str) -> Source:
    """What a folder of an object store holds now. Raises Problems when it cannot be listed."""
    found = {file.name: file for file in sources.find_files(address.rstrip("/") + "/") if "/" not in file.name}
    weights = [WEIGHTS] if WEIGHTS in found else [name for name in found if fnmatch(name, "*.safetensors")]
    names = sorted({*small_files(found), *weights})

    def ask() -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        card = read_card(_beginning(found[CARD])) if CARD in found else {}
        return {name: _head(found[name]) for name in names}, card

    where = sources.without_credentials(address)
    try:
        heads, card = Deadline(ASK_SECONDS).call(ask)
    except OutOfTime:
        raise broken(where, f"it does not describe {len(names)} files in {ASK_SECONDS:.0f} s") from None
    if any((found[name].size or 0) > MAX_FILE_BYTES for name in names):
        raise broken(where, "it states sizes that no disk holds")
    etags = {name: _etag(head) for name, head in heads.items()}
    described = [{"name": name, "size": found[name].size, "etag": etags[name]} for name in names]

    def read(name: str, offset: int, _: int) -> Generator[bytes, None, None]:
        try:
            yield from found[name].pieces(offset)
            etag = _etag(_head(found[name]))
        except Problems as error:
            if not error.may_pass:
                raise
            raise Unreachable(error.problems[0].what) from None
        if etag != etags[name]:
            raise problem(
                f"{name} changed while it was read",
                where=address,
                rule="a snapshot is of one state of the model",
                remedy="run again when nobody writes to the folder",
                may_pass=True,
            )

    return Source(
        name=address.rstrip("/"),
        revision="",
        commit=sha256_of_json(described)[:40],
        where=where,
        if_damaged="run again; if it stays, a proxy in between changes files",
        files={name: FileInfo(size=found[name].size or 0, digest=_md5(heads[name])) for name in names},
        card=card,
        read=read,
    )


def _beginning(file: File) -> bytes:
    return next(file.pieces(), b"")[:MAX_FRONT_MATTER]


def _head(file: File) -> dict[str, Any]:
    head: dict[str, Any] = {}
    with reading(file.address, file.filesystem):
        bucket, key, _ = file.filesystem.split_path(file.path)
        head = file.filesystem.call_s3("head_object", Bucket=bucket, Key=key)
    return head


def _etag(head: dict[str, Any]) -> str:
    """What changes when the object does."""
    return str(head.get("ETag", "")).strip('"')


def _md5(head: dict[str, Any]) -> str:
    """The object's MD5; empty where the ETag is another text: of an upload in parts, or of what was encrypted."""
    is_encrypted = head.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in head
    return _etag(head) if MD5.fullmatch(_etag(head)) and not is_encrypted else ""
