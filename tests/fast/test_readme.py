"""The README's file tree is the one that there is; tests/fast/test_docs.py checks all else, `make check` the tables."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_path_of_its_file_tree_exists() -> None:
    listed = re.findall(r"^((?:components|pipeline|examples|tests)/\S*)", README, re.MULTILINE)

    assert len(listed) > 8
    for path in (path for path in listed if "<" not in path):
        assert (ROOT / path).exists(), path
