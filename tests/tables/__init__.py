"""Cases of one shape, a row each: NAME.yaml has those of test_NAME.py."""

from pathlib import Path
from typing import Any

import yaml


def table(name: str, key: str) -> Any:
    return yaml.safe_load((Path(__file__).parent / f"{name}.yaml").read_text(encoding="utf-8"))[key]
