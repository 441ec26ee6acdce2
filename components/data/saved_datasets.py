"""Folders as `save_to_disk` of datasets writes them: Arrow streams, and files that describe them.

rounds/dataset_dict.json                 where the dataset has splits
rounds/train/data-00000-of-00002.arrow   the rows
rounds/train/cache-d4f6854b6a18ec08.arrow, state.json, dataset_info.json    what datasets remembers
"""

import posixpath
import re

from components.shared import progress, sources
from components.shared.problems import problem

STATE, SPLITS = "state.json", "dataset_dict.json"
DATA = re.compile(r"data-\d+-of-\d+\.arrow|dataset\.arrow")
"""The files of rows; earlier releases of datasets wrote one."""


def find_tables(address: str) -> list[sources.File]:
    """The files behind an address, of saved datasets those that hold rows.

    Raises:
        Problems: as `find_files`, and for a dataset with several splits.
    """
    files = sources.find_files(address)
    saved = {folder for folder, name in map(posixpath.split, (file.name for file in files)) if name == STATE}
    if not saved:
        return files
    shown = sources.without_credentials(address)
    for file in files:
        root, name = posixpath.split(file.name)
        splits = sorted(folder for folder in saved if posixpath.dirname(folder) == root and folder != root)
        if name == SPLITS and len(splits) > 1:
            folder = posixpath.dirname(file.address)
            raise problem(
                f"the folder holds a dataset with {len(splits)} splits",
                where=folder,
                rule="what is trained on is named: a test split is for tests",
                remedy="name one of them: " + ", ".join(f"{folder}/{posixpath.basename(split)}" for split in splits),
            )
    progress.log(f"{shown}: a dataset that save_to_disk wrote, of which the files of rows are read")
    return [file for file in files if _holds_rows(file.name, saved)]


def _holds_rows(path: str, saved: set[str]) -> bool:
    folder, name = posixpath.split(path)
    return bool(DATA.fullmatch(name)) if folder in saved else name != SPLITS
