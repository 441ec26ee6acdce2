"""A model in a folder of an object store: a state of it is named by a hash over names, sizes and ETags of its files.

An object store says no sha256 of what it holds. So a file is right when it has its length, and its ETag is the same
before and after it was read; the snapshot's own sha256 is taken from what arrived.
"""

import re
from collections.abc import Generator
from fnmatch import fnmatch
from typing import Any

from components import sources
from components.problems import problem
from components.snapshot_model.folder import CARD, LARGEST_FRONT_MATTER, read_card
from components.snapshot_model.model_folder import small_files
from components.snapshot_model.source import Source, Stated, Unreachable
from components.sources import File
from components.storage import sha256_of_json


def folder_name(address: str) -> str:
    """The last part of an s3:// address, as the name of a folder."""
    return re.sub(r"[^\w.-]", "-", address.rstrip("/").rpartition("/")[2], flags=re.ASCII).lstrip(".") or "model"


def open_s3(address: str) -> Source:
    """What a folder of an object store holds now.

    Raises:
        Problems: when it cannot be listed.
    """
    found = {file.name: file for file in sources.find_files(address.rstrip("/") + "/")}
    names = sorted(
        {*small_files(found), *(name for name in found if fnmatch(name, "*.safetensors") and "/" not in name)}
    )
    etags = {name: _etag(found[name]) for name in names}
    described = [{"name": name, "size": found[name].size, "etag": etags[name]} for name in names]

    def read(name: str, offset: int) -> Generator[bytes, None, None]:
        try:
            yield from found[name].pieces(offset)
            etag = _etag(found[name])
        except sources.BrokenConnection as error:  # a connection, not a rule
            raise Unreachable(error.problems[0].what) from None
        if etag != etags[name]:
            raise problem(
                f"{name} changed while it was read",
                where=address,
                rule="a snapshot is of one state of the model",
                remedy="run again when nobody writes to the folder",
            )

    return Source(
        name=address.rstrip("/"),
        revision="",
        commit=sha256_of_json(described)[:40],
        where=sources.without_credentials(address),
        if_damaged="run again; if it stays, a proxy in between changes files",
        files={name: Stated(size=found[name].size or 0, digest="") for name in names},
        card=read_card(_beginning(found[CARD])) if CARD in found else {},
        read=read,
    )


def _beginning(file: File) -> bytes:
    return next(file.pieces(), b"")[:LARGEST_FRONT_MATTER]


def _etag(file: File) -> str:
    """What changes when the object does."""
    info: dict[str, Any] = {}
    with sources.told_as_problems(file.address, file.filesystem):
        info = file.filesystem.info(file.path)
    return str(info.get("ETag", "")).strip('"')
