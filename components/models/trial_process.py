"""The process in which a model is tried: python -m components.models.trial_process, with a request on standard input.

Each line that it writes is JSON: the file that it comes to, and at the end what it found.

    {"at": "config.json"}
    {"problems": [{"what": "...", "where": "...", "rule": "...", "remedy": "...", "may_pass": false}], "remarks": []}
"""

import contextlib
import dataclasses
import json
import resource
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data import chat
from components.data.samples import prompt_tokens, render, tokenize
from components.models.configuration import FETCH_FILE
from components.models.stops import GENERATION_CONFIG, named_stops, stop_tokens
from components.models.trial import CPU_SECONDS, MEMORY_BYTES, REMEDY, TEMPLATE_SECONDS
from components.shared.problems import Checks, Problems, list_some, quote
from components.shared.storage import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER, TOKENIZER_CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat template"


def main() -> None:
    request = json.load(sys.stdin)
    sys.modules["torch"] = None  # type: ignore[assignment]  # nothing here needs it, and importing it takes seconds
    import transformers  # noqa: F401 - before the limits

    _limit(CPU_SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    checks = Checks()
    remarks = _try(Path(request["folder"]), request["where"], request["messages"], checks)
    _write({"problems": [dataclasses.asdict(one) for one in checks.problems], "remarks": remarks})


def _limit(seconds: int) -> None:
    """End this process when it has computed for so long from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, most))


def _write(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _reading(name: str, where: str, checks: Checks) -> Iterator[None]:
    """Add whatever is raised while a file is read or used."""
    _write({"at": name})
    try:
        yield
    except Problems as error:
        checks.problems.extend(error.problems)
    except BaseException as error:  # the tokenizers library raises panics, which are no Exception
        text = " ".join(str(error).split())
        checks.add(
            f"{name} cannot be used: {type(error).__name__}: {text:.300}",
            where=f"{where}/{name}",
            rule=f"transformers {version('transformers')} reads it",
            remedy=REMEDY,
        )


def _try(folder: Path, where: str, messages: list[chat.Message], checks: Checks) -> list[str]:
    from tokenizers import Tokenizer
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    with _reading("config.json", where, checks):
        AutoConfig.from_pretrained(folder, trust_remote_code=False)
    vocabulary = read_json(folder / "config.json")["vocab_size"]
    if (folder / GENERATION_CONFIG).exists():
        with _reading(GENERATION_CONFIG, where, checks):
            GenerationConfig.from_pretrained(folder)
            _check_stops(folder, where, vocabulary, checks)
    if (folder / TOKENIZER).exists():
        with _reading(TOKENIZER, where, checks):
            Tokenizer.from_file(str(folder / TOKENIZER))
    settings = folder / TOKENIZER_CONFIG
    with _reading(TOKENIZER_CONFIG, where, checks):
        check_class(read_json(settings) if settings.exists() else {}, where, checks)
    if checks.problems:
        return []
    with _reading(TOKENIZER_CONFIG, where, checks):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        _check_ends(tokenizer, where, checks)
    if checks.problems:
        return []
    remarks: list[str] = []
    _limit(TEMPLATE_SECONDS)
    with _reading(TEMPLATE, where, checks):
        _check_template(messages, tokenizer, vocabulary, where, checks)
        if messages[-1]["role"] == "assistant":
            remarks = _compare_ends(folder, messages, tokenizer, where, checks)
            # The evaluation also asks without the system prompt.
            _check_template([one for one in messages if one["role"] != "system"], tokenizer, vocabulary, where, checks)
    return remarks


def _check_stops(folder: Path, where: str, vocabulary: int, checks: Checks) -> None:
    if wrong := [one for one in named_stops(folder) if type(one) is not int or not -1 <= one < vocabulary]:
        checks.add(
            f"eos_token_id names {quote(wrong[0])}",
            where=f"{where}/{GENERATION_CONFIG}",
            rule=f"end tokens are tokens of the vocabulary, 0 to {vocabulary - 1}",
            remedy=REMEDY,
        )


def check_class(config: dict[str, Any], where: str, checks: Checks) -> None:
    """Add a tokenizer that needs code of its author."""
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    kind, auto_map = config.get("tokenizer_class"), config.get("auto_map", {})
    code = auto_map.get("AutoTokenizer") if isinstance(auto_map, dict) else auto_map  # a list in older models
    has_none = isinstance(auto_map, dict) and code is None
    is_pair = isinstance(code, list) and len(code) == 2
    if not isinstance(kind, str | None):
        what, rule = f"tokenizer_class is {quote(kind)}", "the name of a tokenizer's class"
        checks.add(what, where=f"{where}/{TOKENIZER_CONFIG}", rule=rule, remedy=FETCH_FILE)
    elif not has_none and not (is_pair and kind and tokenizer_class_from_name(kind)):
        checks.add(
            f"the tokenizer needs code of its author: {quote(code)}",
            where=f"{where}/{TOKENIZER_CONFIG}",
            rule="no code from a model is run; transformers has a class for the tokenizer",
            remedy="use a model whose tokenizer_class is one of transformers",
        )


def _check_ends(tokenizer: "PreTrainedTokenizerBase", where: str, checks: Checks) -> None:
    if not tokenizer.is_fast:
        checks.add(
            f"the tokenizer is {type(tokenizer).__name__}, which does not say where a token stands in the text",
            where=f"{where}/{TOKENIZER_CONFIG}",
            rule="a tokenizer of the library tokenizers, as tokenizer.json holds it",
            remedy="save it with transformers' save_pretrained in a copy of the model, and name that folder",
        )
    for name, token, number in (
        ("end token (eos_token)", tokenizer.eos_token, tokenizer.eos_token_id),
        ("padding token (pad_token), which may be the end token", tokenizer.pad_token or tokenizer.eos_token, 0),
    ):
        if token is None or number is None:
            checks.add(
                f"the tokenizer has no {name}",
                where=f"{where}/{TOKENIZER_CONFIG}",
                rule="answers end with a token, and shorter ones are filled up with one",
                remedy="name the token in a copy of the model's tokenizer_config.json, and name that folder; for "
                "questions and answers take the -instruct model",
            )


def _check_template(
    messages: list[chat.Message],
    tokenizer: "PreTrainedTokenizerBase",
    vocabulary: int,
    where: str,
    checks: Checks,
) -> None:
    """Add words that the template leaves out, and tokens that the model does not have."""
    is_answered = messages[-1]["role"] == "assistant"
    text = _squeeze(render(messages, tokenizer, add_generation_prompt=not is_answered))
    for message in messages:
        if _squeeze(message["content"]) not in text:
            checks.add(
                f"the chat template drops or changes the {message['role']}'s message",
                where=f"{where}, {TEMPLATE}",
                rule="system prompt, question and answer reach the model as they are",
                remedy="leave the system prompt empty (--system-prompt ''), or take another model"
                if message["role"] == "system"
                else REMEDY,
            )
    tokens = tokenize(messages, tokenizer).tokens if is_answered else prompt_tokens(messages, tokenizer)
    if beyond := sorted({token for token in tokens if token >= vocabulary}):
        names = (f"{quote(tokenizer.convert_ids_to_tokens(token))} ({token})" for token in beyond)
        checks.add(
            f"the model has no such tokens: {list_some(names)}",
            where=f"{where}, {TEMPLATE} and tokenizer",
            rule=f"vocab_size in config.json is {vocabulary}: tokens are numbers below it",
            remedy="resize the embedding to the tokenizer (resize_token_embeddings, then save_pretrained), or take "
            "another model",
        )


def _compare_ends(
    folder: Path, messages: list[chat.Message], tokenizer: "PreTrainedTokenizerBase", where: str, checks: Checks
) -> list[str]:
    """Add an answer without an end; gives a remark where generation does not know it."""
    if not tokenize(messages, tokenizer).end:
        checks.add(
            "the chat template ends an answer with no token of its own",
            where=f"{where}, {TEMPLATE}",
            rule="after the answer comes a control token of the tokenizer; a model that learns none never stops",
            remedy="take the -instruct model, or one whose template ends each turn with a token",
        )
        return []
    added = set(stop_tokens(folder, tokenizer)) - set(named_stops(folder))
    names = [quote(tokenizer.convert_ids_to_tokens(token)) for token in added]
    return [
        f"the chat template ends answers with {name}, which the model's {GENERATION_CONFIG} does not name: it is added "
        "in the evaluation and in what is saved"
        for name in names
    ]


def _squeeze(text: str) -> str:
    return "".join(text.split())


if __name__ == "__main__":
    main()
