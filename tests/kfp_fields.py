"""The API server of KFP 2.14.3 parses strictly: a key that is not in kfp_fields.yaml rejects the import."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

KNOWN = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def unknown_fields(documents: Iterable[Any]) -> list[str]:
    """Paths of the keys of a compiled pipeline's two documents that the server does not know."""
    pipeline, platform = documents
    return _unknown(pipeline, KNOWN["pipeline"]) + _unknown(platform, KNOWN["platform"])


def _unknown(value: Any, known: Any, path: str = "") -> list[str]:
    if known == "any" or not isinstance(value, dict | list):
        return []
    if isinstance(value, list):
        return [place for item in value for place in _unknown(item, known, path)]
    if known is None:
        return [path]
    places = []
    for key, inner in value.items():
        if key not in known and "*" not in known:
            places.append(f"{path}/{key}")
        else:
            places += _unknown(inner, known.get(key, known.get("*")), f"{path}/{key}")
    return places
