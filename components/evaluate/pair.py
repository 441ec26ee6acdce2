"""Are two models a base and a model adapted from it? Their tensors, and all that decides what an answer is."""

from pathlib import Path
from typing import Any

from components.data import chat
from components.data.samples import render
from components.evaluate.audit import Weights
from components.models.folder import check_model_folder
from components.models.stops import stop_tokens
from components.run.evaluation_options import EvaluationOptions
from components.shared.options import set_option
from components.shared.problems import Checks, list_some

PROBE = chat.training_row("Answer briefly.", "What is 1 plus 1?", "It is 2.")["messages"]


def check_pair(base: Path, adapted: Path) -> None:
    """Make sure that two folders hold complete models with the same tensors.

    Raises:
        Problems: everything that is wrong with either, or differs.
    """
    checks = Checks()
    for folder in (base, adapted):
        with checks.collecting():
            check_model_folder(folder)
    checks.raise_if_any()
    before, after = Weights(base).shapes(), Weights(adapted).shapes()
    differ = [name for name in sorted(before.keys() & after.keys()) if before[name] != after[name]]
    for names, what in (
        (sorted(before.keys() - after.keys()), "only the base model has"),
        (sorted(after.keys() - before.keys()), "only the adapted model has"),
        ([f"{name} {before[name]} and {after[name]}" for name in differ], "both have in different shapes"),
    ):
        if names:
            checks.add(
                f"the models do not match: {what} {list_some(names, 3)}",
                where=f"{base} and {adapted}",
                rule="an adapted model has the tensors of its base model",
                remedy="compare a model with the one that it was trained from (--base, --adapted)",
            )
    checks.raise_if_any()


def check_same_language(base: Path, adapted: Path, accept: bool) -> list[str]:
    """How the models differ in tokenizer, chat template and end tokens.

    Args:
        accept: whether differences are only returned.

    Raises:
        Problems: for each difference, unless they are accepted.
    """
    before, after = _says(base), _says(adapted)
    differences = [name for name in before if before[name] != after[name]]
    checks = Checks()
    for name in [] if accept else differences:
        checks.add(
            f"the models have not the same {name}",
            where=f"{base} and {adapted}",
            rule="base and adapted model are asked in the same words and end their answers alike, or the comparison is "
            "one of something else as well",
            remedy="compare a model with the one that it was trained from, or add "
            + set_option(EvaluationOptions, "accept_differences", True),
        )
    checks.raise_if_any()
    return differences


def _says(folder: Path) -> dict[str, Any]:
    """What a model's answers depend on beside its weights, by a reader's name for it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    text = render(PROBE, tokenizer)
    return {
        "tokenizer": (tokenizer.get_vocab(), tokenizer(text, add_special_tokens=False)["input_ids"]),
        "chat template": (tokenizer.chat_template, text),
        "end tokens": sorted(stop_tokens(folder, tokenizer)),
    }
