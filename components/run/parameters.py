"""The parameters of a run: what it works with, and those options of training and evaluation that are parameters.

Their names, defaults, rules and help stand in the dataclasses; KFP wants the names once more, in graph.py's signature.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from components.run.evaluation_options import EvaluationOptions
from components.run.plan import BASE, STARTS
from components.run.sweep import HELP as SETTINGS_HELP
from components.run.training_options import TrainingOptions
from components.shared.options import Declared, Rule, declared, one_of, option, parameters_of, string

Function = TypeVar("Function", bound=Callable[..., Any])

_ADDRESS = string("a path, file://, https:// or s3://")


def _options(example: str, kind: type | None = None) -> Rule:
    """Further options, of which a kind's names are listed."""
    names = [name for name, one in declared(kind).items() if not one.parameter] if kind else []
    others = f"; there are {', '.join(names)}" if names else ""
    return Rule(text=f"names with values, as in {example}{others}", holds=lambda v: isinstance(v, dict))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunInputs:
    """What a run works with; the steps that read it check it."""

    data: str = option("", "SDG output: CSV, JSONL, Parquet or Arrow, one file, a folder or a glob", _ADDRESS)
    questions: str = option(
        "", "gap questions: a table with question, reference and other approaches' verdicts", _ADDRESS
    )
    retention_questions: str = option(
        "",
        "general questions: a table with question and reference, mmlu for those of an installed lm-eval, empty for the "
        "project's own",
        _ADDRESS,
    )
    model: str = option(
        "ibm-granite/granite-3.2-8b-instruct",
        "base model",
        string("org/name on the hub, a folder, or s3://bucket/folder"),
    )
    revision: str = option("main", "branch, tag or commit of the model on the hub", string())
    system_prompt: str = option(
        "You are an expert on our documents. Answer precisely and briefly.",
        "first message of every conversation, in training and in evaluation",
        string(),
    )
    data_options: dict[str, Any] = option({}, "how the data is read", _options('{"columns": "response=answer"}'))
    training_options: dict[str, Any] = option({}, "further options of the training", _options('{"warmup_steps": 10}'))
    evaluation_options: dict[str, Any] = option(
        {}, "further options of the evaluation", _options('{"max_answer_tokens": 128}', EvaluationOptions)
    )
    publish_as: str = option("", "a good model's name, empty for the base model's with -osft behind it", string())
    start_from: str = option(
        BASE,
        "what the training starts from: the base model, or the model published last under this name and made from that "
        "base model; while there is none, the base model",
        one_of(*STARTS),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalInputs:
    """What a run on this machine needs beside them; on a cluster it is compiled into the pipeline."""

    workspace: str = option("", "folder for models and results", string())


REQUIRED = ("data", "questions")


def all_parameters() -> dict[str, Declared]:
    """What is declared about each parameter of the pipeline, by name."""
    return declared(RunInputs) | parameters_of(TrainingOptions) | parameters_of(EvaluationOptions)


def with_help(function: Function) -> Function:
    """Give a function's docstring a line for each of its parameters, which KFP's dashboard shows."""
    texts = {"settings": SETTINGS_HELP} | {name: one.text for name, one in all_parameters().items()}
    lines = [f"    {name}: {texts[name]}" for name in inspect.signature(function).parameters]
    function.__doc__ = "\n".join([function.__doc__ or "", "", "Args:", *lines])
    return function
