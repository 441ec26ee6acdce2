"""What belongs to a model's files, and what must be among them before anything is copied or trained."""

import json
import os
from collections.abc import Callable, Collection
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from components.models.configuration import FETCH_FILE, check_config
from components.models.headers import (
    INDEX,
    POINTER,
    WEIGHTS,
    Header,
    check_copies,
    check_headers,
    pointer_problem,
    read_header,
)
from components.shared import reach
from components.shared.problems import Checks, list_some, problem, quote

# What a model is besides its weights. No *.py: code from a model's author is not run.
SMALL = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
    "chat_template.json",
)  # fmt: skip
SHARD = "model-*.safetensors"
TOKENIZERS = ("tokenizer.json", "vocab.json")
SENTENCEPIECE = "tokenizer.model"  # no image has the library that reads it
ADAPTER = "adapter_config.json"
TEMPLATES = ("chat_template.jinja", "chat_template.json")


def is_plain_name(name: str) -> bool:
    """Whether a name from elsewhere may become a file's in a model's folder."""
    return name.isprintable() and "/" not in name and not name.startswith(".") and name != ""


def small_files(names: Collection[str]) -> list[str]:
    """Those of a repository's or folder's file names that belong to a snapshot and are no weights, sorted."""
    return sorted(name for name in names if name in SMALL or (name == INDEX and WEIGHTS not in names))


def weight_names(names: Collection[str], read: Callable[[str], bytes]) -> list[str]:
    """Those that hold the weights, sorted; `read` gives the content of an index that `check_model_files` accepts."""
    return [WEIGHTS] if WEIGHTS in names else sorted(set(json.loads(read(INDEX))["weight_map"].values()))


def likely_weights(names: Collection[str]) -> list[str]:
    """Those that hold the weights as far as names tell: enough to see whether there is room for them."""
    return [WEIGHTS] if WEIGHTS in names else sorted(name for name in names if fnmatch(name, SHARD))


def check_model_files(names: Collection[str], read: Callable[[str], bytes], where: str) -> None:
    """Make sure that a model can be trained and asked with these files, others among them; `read` gives the content
    of the small ones. Raises Problems naming everything that is missing, and a model that this project cannot train."""
    checks = Checks()

    def document(name: str) -> dict[str, Any]:
        value: Any = {}
        content = read(name) if name in names else b"{}"
        if content.startswith(POINTER):
            checks.problems += pointer_problem(name, f"{where}/{name}").problems
            return {}
        try:
            value = json.loads(content.decode())  # as those who use it read it
            fault = "" if isinstance(value, dict) else f"holds a {type(value).__name__}"
        except (ValueError, RecursionError) as error:
            fault = f"is no JSON: {error}"
        if fault:
            checks.add(f"{name} {fault}", where=f"{where}/{name}", rule="a JSON object", remedy=FETCH_FILE)
        return {} if fault else value

    if ADAPTER in names and "config.json" not in names:
        raise problem(
            "this is an adapter, not a model",
            where=f"{where}/{ADAPTER}",
            rule="a model has all of its weights; an adapter holds a change to those of another one",
            remedy="merge it into its base model (PEFT's merge_and_unload, then save_pretrained), and name that folder",
        )
    config = document("config.json")
    missing = []
    if "config.json" not in names:
        missing.append("config.json")
    if SENTENCEPIECE in names and not any(name in names for name in TOKENIZERS):
        checks.add(
            f"the tokenizer is there as {SENTENCEPIECE} only",
            where=where,
            rule="tokenizer.json, which transformers reads without the library sentencepiece",
            remedy='where sentencepiece is installed: python -c "from transformers import AutoTokenizer as A; '
            "A.from_pretrained('MODEL').save_pretrained('MODEL')\", MODEL being a copy of the folder",
        )
    elif not any(name in names for name in TOKENIZERS):
        missing.append(f"a tokenizer ({' or '.join(TOKENIZERS)})")
    tokenizer_config = document("tokenizer_config.json")
    if not any(name in names for name in TEMPLATES) and not tokenizer_config.get("chat_template"):
        missing.append(f"a chat template ({TEMPLATES[0]} or chat_template in tokenizer_config.json)")
    is_split = WEIGHTS not in names and INDEX in names
    if not any(name.endswith(".safetensors") and "/" not in name for name in names):
        missing.append("weights (*.safetensors)")
    elif WEIGHTS not in names and INDEX not in names:
        missing.append(f"{WEIGHTS}, or {INDEX} with the files that it names")
    if missing:
        checks.add(
            f"the model lacks {', '.join(missing)}",
            where=where,
            rule="a model is config.json, a tokenizer, its chat template and its weights as *.safetensors",
            remedy="name a folder written by save_pretrained, or a model on a hub; for a chat template take the "
            "-instruct model",
        )
    weight_map = document(INDEX).get("weight_map") if is_split else {}
    document("generation_config.json")
    for name in TOKENIZERS:  # the trial reads them
        if name in names and read(name).startswith(POINTER):
            checks.problems += pointer_problem(name, f"{where}/{name}").problems
    if not isinstance(weight_map, dict) or (is_split and not weight_map):
        checks.add(
            "the index names no weights",
            where=f"{where}/{INDEX}",
            rule="a JSON object weight_map with the file of each weight",
            remedy="fetch the model again",
        )
        weight_map = {}
    shards = {str(shard) for shard in weight_map.values()}
    usable = {name for name in names if fnmatch(name, "*.safetensors") and is_plain_name(name)}
    if absent := sorted(shards - usable):
        checks.add(
            f"weights are missing: {list_some(map(quote, absent))}",
            where=f"{where}/{INDEX}",
            rule="every file that the index names is there, beside it, as safetensors",
            remedy="fetch the model again",
        )
    if "config.json" in names:
        check_config(config, where, checks)
    checks.raise_if_any()


def check_model_folder(folder: Path) -> list[str]:
    """The files of a local model folder that belong to the model, after `check_model_files` and the headers' checks.

    Raises:
        Problems: as those, and when there is no such folder.
    """
    if not os.path.isdir(folder):  # false, and no error, for a name that is too long
        raise problem(
            "no such folder",
            where=f"model {folder}",
            rule="a model is a local folder, org/name on a hub, or s3://bucket/folder",
            remedy="correct the path; org/name has exactly one slash and no dots in front",
        )

    def read(name: str) -> bytes:
        return (folder / name).read_bytes()

    reach.check_path(folder)
    names = [path.name for path in folder.iterdir() if path.is_file()]
    for name in [*small_files(names), *(name for name in names if fnmatch(name, "*.safetensors"))]:
        reach.check_path(folder / name)
    check_model_files(names, read, str(folder))
    weights = weight_names(names, read)
    headers = read_headers(folder, {name: (folder / name).stat().st_size for name in weights}, str(folder))
    check_weights(folder, headers, str(folder))
    check_copies(folder, headers, str(folder))
    return sorted([*small_files(names), *weights])


def read_headers(folder: Path, sizes: dict[str, int], where: str) -> dict[str, Header]:
    """The headers of files of weights whose beginnings are there. Raises Problems naming each that is broken."""
    checks, headers = Checks(), {}
    for name, size in sizes.items():
        with checks.collecting():
            headers[name] = read_header(folder / name, size, f"{where}/{name}")
    checks.raise_if_any()
    return headers


def check_weights(folder: Path, headers: dict[str, Header], where: str) -> None:
    """Make sure that headers are those of the model whose small files lie in a folder; see `check_headers`."""
    weight_map = None if WEIGHTS in headers else json.loads((folder / INDEX).read_bytes())["weight_map"]
    check_headers(headers, weight_map, json.loads((folder / "config.json").read_bytes()), where)
