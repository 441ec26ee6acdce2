"""Where a model's answers stop: at the tokens that its files name, and at the one that a training teaches as the end.

Some models end their turns with a token that generation_config.json does not name: such an answer would run on to the
limit, whatever was learnt. So that token is added wherever a model of this project is asked, and to what is saved.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from components.data import chat
from components.data.samples import tokenize
from components.models.configuration import as_list
from components.shared.storage import read_json, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GENERATION_CONFIG = "generation_config.json"
PROBE = chat.training_row("", "What is 1 plus 1?", "It is 2.")["messages"]


def named_stops(folder: Path) -> list[int]:
    """The end tokens that a model's files name: those of generation_config.json, or else of config.json."""
    settings = folder / GENERATION_CONFIG
    ends = read_json(settings).get("eos_token_id") if settings.exists() else None
    return as_list(read_json(folder / "config.json").get("eos_token_id") if ends is None else ends)


def stop_tokens(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The tokens at which a model's answers stop.

    Raises:
        Problems: when the chat template does not render a conversation.
    """
    named, taught = named_stops(folder), tokenize(PROBE, tokenizer).end
    return named if not taught or set(taught) & set(named) else [*named, taught[-1]]


def save_stop_tokens(folder: Path) -> None:
    """Let a saved model's generation_config.json name all of them."""
    from transformers import AutoTokenizer

    stops = stop_tokens(folder, AutoTokenizer.from_pretrained(folder, trust_remote_code=False))
    if stops != named_stops(folder):
        path = folder / GENERATION_CONFIG
        write_json(path, (read_json(path) if path.exists() else {}) | {"eos_token_id": stops})
