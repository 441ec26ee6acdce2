"""What belongs to a model's files, and what must be among them before anything is copied or trained."""

import json
import os
from collections.abc import Callable, Collection
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from components.models.headers import INDEX, WEIGHTS, check_weights
from components.shared import reach
from components.shared.problems import Checks, list_some, problem, quote
from components.shared.storage import read_json

# What a model is besides its weights. No *.py: code from a model's author is not run.
SMALL = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
    "chat_template.json",
)  # fmt: skip
SHARD = "model-*.safetensors"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
FAST_TOKENIZER = "tokenizer.json"
TEMPLATES = ("chat_template.jinja", "chat_template.json")

# Dense decoder-only language models whose layers hold the matrices that OSFT decomposes.
TRAINABLE_TYPES = (
    "gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "phi3", "qwen2", "qwen3",
)  # fmt: skip
SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size")
SIZES_WITH_DEFAULT = ("head_dim", "num_key_value_heads", "max_position_embeddings")
MAX_LAYERS, MAX_SIZE = 1000, 1 << 24  # many times those of the largest models
SIZES_RULE = f"a model's sizes are integers from 1 to {MAX_SIZE}, its layers at most {MAX_LAYERS}"
EXPERT_KEYS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


FETCH_FILE = "fetch the file again"


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
        try:
            value = json.loads(read(name).decode()) if name in names else {}  # as those who use it read it
            fault = "" if isinstance(value, dict) else f"holds a {type(value).__name__}"
        except (ValueError, RecursionError) as error:
            fault = f"is no JSON: {error}"
        if fault:
            checks.add(f"{name} {fault}", where=f"{where}/{name}", rule="a JSON object", remedy=FETCH_FILE)
        return {} if fault else value

    config = document("config.json")
    missing = []
    if "config.json" not in names:
        missing.append("config.json")
    if not any(name in names for name in TOKENIZERS):
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
        check_trainable(config, where, checks)
    _check_tokenizer(tokenizer_config, read(FAST_TOKENIZER) if FAST_TOKENIZER in names else None, where, checks)
    checks.raise_if_any()


def read_config(path: Path) -> dict[str, Any]:
    """A model's config.json, or the one in a folder. Raises Problems when it cannot be read, or says that the model
    cannot be trained."""
    file = path / "config.json" if path.is_dir() else path
    try:
        config = read_json(file)
    except (OSError, ValueError) as error:
        raise problem(
            f"config.json cannot be read: {error}",
            where=str(file),
            rule="the configuration that lies beside a model's weights",
            remedy="name that file, or its folder",
        ) from None
    checks = Checks()
    check_trainable(config if isinstance(config, dict) else {}, str(file.parent), checks)
    checks.raise_if_any()
    return config


def check_model_folder(folder: Path) -> list[str]:
    """The files of a local model folder that belong to the model, after `check_model_files` and `check_weights`."""
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
    check_weights(folder, weights, str(folder))
    return sorted([*small_files(names), *weights])


def check_trainable(config: dict[str, Any], where: str, checks: Checks) -> None:
    """Add what keeps a model from being trained, as its config.json says."""
    model_type, where = config.get("model_type"), f"{where}/config.json"
    if any(config.get(key) not in (None, 0, 1) for key in EXPERT_KEYS):
        checks.add(
            f"the model is a mixture of experts ({quote(model_type)})",
            where=where,
            rule=f"the backend single-device trains dense models: {', '.join(TRAINABLE_TYPES)}",
            remedy="use a dense model, or train this one by training_hub.osft(backend='mini-trainer') on several GPUs",
        )
    elif model_type not in TRAINABLE_TYPES:
        checks.add(
            f"models of type {quote(model_type)} are not supported",
            where=where,
            rule=f"the backend single-device trains {', '.join(TRAINABLE_TYPES)}",
            remedy="use one of these, or train this one with training_hub.osft(backend='mini-trainer')",
        )
    else:
        needed = {name: config.get(name) for name in SIZES}
        given = {name: config[name] for name in SIZES_WITH_DEFAULT if config.get(name) is not None}
        wrong = {
            name: value
            for name, value in (needed | given).items()
            if type(value) is not int or not 1 <= value <= (MAX_LAYERS if name == "num_hidden_layers" else MAX_SIZE)
        }
        for name, value in wrong.items():
            what = f"{name} is {quote(value)}" if name in config else f"{name} is missing"
            remedy = f"{FETCH_FILE}, or save the model with transformers' save_pretrained"
            checks.add(what, where=where, rule=SIZES_RULE, remedy=remedy)


def _check_tokenizer(config: dict[str, Any], fast: bytes | None, where: str, checks: Checks) -> None:
    """Add what keeps a tokenizer from being loaded: tokenizer_config.json and, if there is one, tokenizer.json."""
    kind, auto_map = config.get("tokenizer_class"), config.get("auto_map", {})
    code = auto_map.get("AutoTokenizer") if isinstance(auto_map, dict) else auto_map  # a list in older models
    has_none = isinstance(auto_map, dict) and code is None
    is_pair = isinstance(code, list) and len(code) == 2
    if not isinstance(kind, str | None):
        what, rule = f"tokenizer_class is {quote(kind)}", "the name of a tokenizer's class"
        checks.add(what, where=f"{where}/tokenizer_config.json", rule=rule, remedy=FETCH_FILE)
    elif not has_none and not (is_pair and _is_built_in(kind)):
        checks.add(
            f"the tokenizer needs code of its author: {quote(code)}",
            where=f"{where}/tokenizer_config.json",
            rule="no code from a model is run; transformers has a class for the tokenizer",
            remedy="use a model whose tokenizer_class is one of transformers",
        )
    if fast is None:
        return
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_buffer(fast)
    except Exception as error:  # the library raises no other type
        what, rule = f"the tokenizer cannot be loaded: {quote(error)}", "a tokenizer as the tokenizers library saves it"
        checks.add(what, where=f"{where}/{FAST_TOKENIZER}", rule=rule, remedy=FETCH_FILE)


def _is_built_in(tokenizer_class: str | None) -> bool:
    if tokenizer_class is None:
        return False
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    return tokenizer_class_from_name(tokenizer_class) is not None
