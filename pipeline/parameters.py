"""The parameters of a run, on a laptop and on a cluster the same: read from a file and from the command line, checked
before anything starts or is sent."""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.run.data_options import DataOptions
from components.run.evaluation_options import EvaluationOptions
from components.run.sweep import read_settings
from components.run.training_options import TrainingOptions
from components.shared.documents import check_plain
from components.shared.options import parameters_of
from components.shared.problems import Checks, quote_address, suggest
from pipeline.cluster.compiled_file import CompiledPipeline, Parameter, read_yaml
from pipeline.cluster.run_inputs import check_inputs

MAX_BYTES = 1 << 16  # of a file of parameters
MAX_NAMES = 200  # in a file, or in a parameter that holds further options
INTEGER = re.compile(r"[+-]?\d+", re.A)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.A)
OPTIONS: dict[str, type[DataOptions] | type[TrainingOptions] | type[EvaluationOptions]] = {
    "data_options": DataOptions,
    "training_options": TrainingOptions,
    "evaluation_options": EvaluationOptions,
}
"""The parameters that hold further options, and what checks these together with the parameters of their names."""
REPLACED = EvaluationOptions.REPLACED | {"workspace": "leave it out: the pipeline has the volume's path compiled in"}
"""What to do about names that are no parameters: of earlier releases, and of a file that a laptop takes."""


def read_parameters(pipeline: CompiledPipeline, texts: list[str], file: Path | None) -> dict[str, Any]:
    """The parameters of a run on a cluster: those of a YAML file, and over them those of `--param name=value`. Raises
    Problems naming at once all that are unknown, missing, of a wrong type or out of range."""
    checks = Checks()
    given = given_in_file(file, checks) | _given_as_text(texts, checks)
    remedy = "add --param {name}=VALUE, or {name} to the file of --params"
    read = read_values(pipeline.parameters, given, remedy, checks)
    wrong = set(given) - set(read)
    values = {name: read.get(name, parameter.default) for name, parameter in pipeline.parameters.items()}
    check_options(values, wrong, checks)
    check_inputs({name: value for name, value in values.items() if name not in wrong}, pipeline.mount_path, checks)
    checks.raise_if_any()
    return read


def given_in_file(file: Path | None, checks: Checks) -> dict[str, tuple[Any, str]]:
    """The values of a YAML file by name, each with where it stands."""
    values = _read_parameter_file(file, checks) if file else {}
    return {name: (value, f"{file}, {name}") for name, value in values.items()}


def read_values(
    known: Mapping[str, Parameter], given: Mapping[str, tuple[Any, str]], if_missing: str, checks: Checks
) -> dict[str, Any]:
    """The values of parameters in their types; a problem is added for each that is unknown, missing or of another
    type. Values come with where they were given; in `if_missing` {name} and {flag} stand for a required one."""
    read: dict[str, Any] = {}
    for name, (value, where) in given.items():
        if name not in known:
            checks.add(
                f"unknown parameter {quote_address(name)}{suggest(name, known)}",
                where=where,
                rule=f"the pipeline has {', '.join(known)}",
                remedy=REPLACED.get(name, "correct the name, or leave the parameter out"),
            )
        else:
            _read_value(value, name, known[name], where, read, checks)
    for name, parameter in known.items():
        if parameter.required and name not in given:
            checks.add(
                f"{name} is missing",
                where="parameters",
                rule=f"{name} has no default",
                remedy=if_missing.format(name=name, flag=name.replace("_", "-")),
            )
    return read


def _given_as_text(texts: list[str], checks: Checks) -> dict[str, tuple[Any, str]]:
    given: dict[str, tuple[Any, str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name in given:
            checks.add(
                f"--param {quote_address(text)} has no value" if not equals else f"--param {name} is given twice",
                where="command line",
                rule="name=value, once for a name",
                remedy="for instance --param num_epochs=3",
            )
        if equals:
            given[name] = (_Text(value), f"--param {name if name.isidentifier() else '...'}")
    return given


class _Text(str):
    """A value of the command line, which has no type of its own."""

    __slots__ = ()


def _read_value(value: Any, name: str, parameter: Parameter, where: str, read: dict[str, Any], checks: Checks) -> None:
    rule, convert = _KINDS.get(parameter.kind, ("a kind that this program knows", _no_value))
    if parameter.required and parameter.kind == "STRING":
        rule += " that is not empty"
    try:
        read[name] = convert(value)
        if parameter.required and read[name] == "":
            raise ValueError
    except (OverflowError, RecursionError, ValueError):
        read.pop(name, None)
        quoted = isinstance(value, bool | int | float) and parameter.kind == "STRING"
        checks.add(
            f"{name} is {quote_address(value if isinstance(value, str) else json.dumps(value, default=str))}",
            where=where,
            rule=rule,
            remedy="put it in quotes" if quoted else "correct the value",
        )


def _no_value(value: Any) -> Any:
    raise ValueError


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return str(value)


def _integer(value: Any) -> int:
    """5, 5.0 or the string '5'."""
    if isinstance(value, str) and INTEGER.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not (float(value).is_integer()):
        raise ValueError
    check_plain(int(value))
    return int(value)


def _number(value: Any) -> float:
    """A number, or a string that is one: YAML takes 5e-6 for a string."""
    if isinstance(value, str) and NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _boolean(value: Any) -> bool:
    if isinstance(value, _Text) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise ValueError
    return value


def _json_of(kind: type[dict[str, Any]] | type[list[Any]]) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if isinstance(value, _Text):
            value = json.loads(value)
        if not isinstance(value, kind) or len(value) > MAX_NAMES:
            raise ValueError
        check_plain(value)
        try:
            return json.loads(json.dumps(value, allow_nan=False))
        except TypeError:  # a date, for instance
            raise ValueError from None

    return convert


_KINDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "STRING": ("a string", _string),
    "NUMBER_INTEGER": ("an integer", _integer),
    "NUMBER_DOUBLE": ("a number", _number),
    "BOOLEAN": ("true or false", _boolean),
    "STRUCT": ('names with values, as in {"warmup_steps": 10}', _json_of(dict)),
    "LIST": ("a list, as in [1, 2]", _json_of(list)),
}


def check_options(values: dict[str, Any], wrong: set[str], checks: Checks) -> None:
    """The ranges that the steps would check, for a pipeline that has them; the settings of a sweep as well."""
    before = len(checks.problems)
    for holder, options in OPTIONS.items():
        if holder not in values:
            continue
        names = [field.name for field in dataclasses.fields(options) if field.name in values]
        further = values[holder] if holder not in wrong else {}
        with checks.collecting():
            options.from_mapping({name: values[name] for name in names if name not in wrong}, further)
    if values.get("settings") is not None and "settings" not in wrong and len(checks.problems) == before:
        with checks.collecting():
            shared = {name: values[name] for name in parameters_of(TrainingOptions) if name not in wrong}
            read_settings(values["settings"], shared, values["training_options"])


def _read_parameter_file(path: Path, checks: Checks) -> Mapping[str, Any]:
    documents: list[Any] = []
    with checks.collecting():
        documents = read_yaml(path, "file of parameters", "name: value, one a line", MAX_BYTES)
    if checks.problems:
        return {}
    values = documents[0] if len(documents) == 1 else None
    if isinstance(values, dict) and len(values) <= MAX_NAMES and all(isinstance(name, str) for name in values):
        return values
    checks.add(
        "this is no file of parameters",
        where=str(path),
        rule="YAML with name: value, one a line",
        remedy="for instance num_epochs: 3",
    )
    return {}
