"""A model in a folder of this machine; its commit is a hash over its files."""

import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

from components.models.folder import check_model_folder
from components.shared.problems import Problems, problem
from components.shared.storage import READ_BYTES, sha256_of_json
from components.snapshot_model.meter import hash_files
from components.snapshot_model.model_source import FileInfo, Source, card_fields

CARD = "README.md"
FRONT_MATTER = re.compile(r"---\r?\n(.*?)\n---", re.DOTALL)
MAX_FRONT_MATTER = 1 << 16  # bytes


def open_folder(folder: Path) -> Source:
    """What a folder holds now; reads all of it. Raises Problems when the model is incomplete, cannot be trained, or
    cannot be read."""
    try:
        names = check_model_folder(folder)
        digests = hash_files((folder / name for name in names), "hashing files")
    except OSError as error:
        raise _unreadable(folder, error) from None
    files = {
        name: FileInfo(size=(folder / name).stat().st_size, digest=digest)
        for name, digest in zip(names, digests, strict=True)
    }
    described = [{"name": name, "size": info.size, "sha256": info.digest} for name, info in files.items()]

    def read(name: str, offset: int, _: int) -> Generator[bytes, None, None]:
        try:
            with (folder / name).open("rb") as file:
                file.seek(offset)
                while piece := file.read(READ_BYTES):
                    yield piece
                length = file.tell()
        except OSError as error:
            raise _unreadable(folder, error) from None
        if length != files[name].size:
            raise problem(
                f"{name} changed while it was copied",
                where=str(folder),
                rule="a snapshot is of one state of the model",
                remedy="run again when nobody writes to the folder",
                may_pass=True,
            )

    return Source(
        name=str(folder),
        revision="",
        commit=sha256_of_json(described)[:40],
        where=str(folder),
        if_damaged="run again when nobody writes to the folder",
        files=files,
        card=_card(folder),
        read=read,
    )


def read_card(content: bytes) -> dict[str, Any]:
    """The fields of a model card that are kept, out of its text; none where it does not begin with them."""
    from components.shared.documents import load_yaml

    found = FRONT_MATTER.match(content[:MAX_FRONT_MATTER].decode(errors="replace"))
    try:
        return card_fields(load_yaml(found[1])[0] if found else {})
    except (IndexError, ValueError):  # the author's own words, which the training can do without
        return {}


def _card(folder: Path) -> dict[str, Any]:
    if not (folder / CARD).is_file():
        return {}
    with (folder / CARD).open("rb") as file:
        return read_card(file.read(MAX_FRONT_MATTER))


def _unreadable(folder: Path, error: OSError) -> Problems:
    return problem(
        f"a file of the model cannot be read: {error.strerror}",
        where=str(error.filename or folder),
        rule="the step reads the folder as any user of group 0",
        remedy="make it readable (chmod -R g+rX), or copy it again",
    )
