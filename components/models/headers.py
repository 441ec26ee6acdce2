"""What files of weights say of themselves, and whether it fits the index and config.json. Reads their headers alone.

A header names each tensor with its shape and where it lies: a file that was cut, or is no safetensors at all, shows.
"""

import json
import re
from pathlib import Path

from components.shared.problems import Checks, list_some, quote

# Safetensors only: pickles run code when they are read. One file, or those that the index names; others
# (consolidated.safetensors, adapters) hold the same or something else in another form. The one file goes first, as in
# transformers and in the training.
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
EMBEDDING = "model.embed_tokens.weight"
LAYER = re.compile(r"model\.layers\.([0-9]{1,6})\.")
FETCH = "fetch the model again; if it stays, its author's files are broken: tell them, or take another model"


def check_weights(folder: Path, files: list[str], where: str) -> None:
    """Make sure that weights are whole and those of the model beside them, whose other files `check_model_files`
    accepts. Raises Problems naming each file that is cut or something else, and what does not fit, and
    FileNotFoundError when a file is taken away meanwhile."""
    from safetensors import SafetensorError, safe_open

    checks = Checks()
    found: dict[str, set[str]] = {}
    embedding: list[int] = []
    for name in files:
        try:
            with safe_open(folder / name, framework="numpy") as file:
                found[name] = set(file.keys())
                if EMBEDDING in found[name]:
                    embedding = file.get_slice(EMBEDDING).get_shape()
        except SafetensorError as error:
            what, rule = (
                f"{name} is cut or no safetensors file: {quote(error)}",
                "its header describes every byte of it",
            )
            checks.add(what, where=f"{where}/{name}", rule=rule, remedy=FETCH)
    checks.raise_if_any()
    if WEIGHTS not in found:
        _check_index(json.loads((folder / INDEX).read_bytes())["weight_map"], found, where, checks)
    config = json.loads((folder / "config.json").read_bytes())
    expected = [config["vocab_size"], config["hidden_size"]]
    names = set().union(*found.values())
    layers = {int(match[1]) for name in names if (match := LAYER.match(name))}
    missing = config["num_hidden_layers"] - sum(layer < config["num_hidden_layers"] for layer in layers)
    lacks = [f"{missing} of {config['num_hidden_layers']} layers"] if missing else []
    lacks += [] if EMBEDDING in names else [EMBEDDING]
    if lacks:
        rule = "the files hold every weight of the model that config.json describes, under transformers' names"
        checks.add(f"the weights lack {' and '.join(lacks)}", where=where, rule=rule, remedy=FETCH)
    elif embedding != expected:
        rule = f"vocab_size and hidden_size of config.json are {expected}"
        checks.add(f"{EMBEDDING} has the shape {embedding}", where=where, rule=rule, remedy=FETCH)
    checks.raise_if_any()


def _check_index(weight_map: dict[str, str], found: dict[str, set[str]], where: str, checks: Checks) -> None:
    for file, there in found.items():
        named = {name for name, place in weight_map.items() if place == file}
        if named != there:
            what = f"{file} holds other weights than the index says: {list_some(map(quote, sorted(named ^ there)))}"
            checks.add(what, where=f"{where}/{INDEX}", rule="the index names the file of each weight", remedy=FETCH)
