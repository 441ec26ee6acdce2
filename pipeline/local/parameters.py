"""The parameters of a run on this machine: the file that a cluster takes as well, and flags over it."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from components.data import mmlu
from components.run.parameters import REQUIRED, LocalInputs, all_parameters
from components.shared.options import declared
from components.shared.problems import Checks
from components.shared.sources import without_credentials
from components.shared.storage import write_text
from pipeline.cluster.compiled_file import Parameter
from pipeline.parameters import check_options, given_in_file, read_values

FILE = "params.yaml"  # in a run's folder: what it ran with
KINDS = {int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE", str: "STRING", dict: "STRUCT"}
PLACES = ("data", "questions", "retention_questions")
MODELS = ("model", "judge_model")
NO_DEFAULT_HERE = ("model", "workspace")  # a laptop downloads nothing and writes nowhere unasked


def read_run_parameters(
    file: Path | None,
    flags: Mapping[str, Any],
    further: Mapping[str, Mapping[str, Any]],
    checks: Checks,
    sweep: bool = False,
) -> dict[str, Any]:
    """All parameters of a run, with absolute paths; the default stands for what is not given, and for what is wrong.
    Values of the command line go over the file's, further options one by one. Adds a problem for each that is
    unknown, missing, of a wrong type or out of range; raises Problems when the file cannot be read. A sweep has
    `settings` as well."""
    given = given_in_file(file, checks)
    checks.raise_if_any()
    given |= {name: (value, f"--{name.replace('_', '-')}") for name, value in flags.items()}
    for name, options in further.items():
        before, where = given.get(name, ({}, "command line"))
        if options and isinstance(before, Mapping):
            given[name] = ({**before, **options}, where)
    required = (*REQUIRED, *NO_DEFAULT_HERE)
    known = {
        name: Parameter(
            kind=KINDS[type(one.default)], required=name in required, default="" if name in required else one.default
        )
        for name, one in (all_parameters() | declared(LocalInputs)).items()
    }
    remedy = "add --{flag} VALUE, or {name} to the file of --params"
    if sweep:
        known["settings"] = Parameter(kind="LIST", required=True, default=None)
        remedy = "add {name}: VALUE to the file of --sweep"
    read = read_values(known, given, remedy, checks)
    values = {name: read.get(name, parameter.default) for name, parameter in known.items()}
    check_options(values, set(given) - set(read), checks)
    places = {name: absolute(values[name]) for name in PLACES}
    places["retention_questions"] = set_or_absolute(values["retention_questions"])
    models = {name: _folder_or_name(values[name]) for name in MODELS}
    return values | places | models | {"workspace": absolute(values["workspace"])}


def write_parameters(run: Path, parameters: Mapping[str, Any]) -> None:
    """Leave the parameters in a run's folder, in the form in which they are read."""
    kept = {name: without_credentials(parameters[name]) for name in (*PLACES, "model")}
    text = yaml.safe_dump(dict(parameters) | kept, sort_keys=False, allow_unicode=True, width=120)
    hidden = "".join(f"# {name} was an address with a secret in it, which is not kept here: give it again\n"
                     for name, value in kept.items() if value != parameters[name])  # fmt: skip
    write_text(run / FILE, f"# osft-pipeline run --params {shlex.quote(str(run / FILE))}\n{hidden}{text}")


def set_or_absolute(questions: str) -> str:
    """As `absolute`; the name of a set of questions as it is."""
    return questions if questions == mmlu.NAME else absolute(questions)


def _folder_or_name(model: str) -> str:
    return absolute(model) if model and os.path.isdir(os.path.expanduser(model)) else model


def absolute(uri: str) -> str:
    """A path made absolute, because the steps run elsewhere; an address as it is."""
    return uri if not uri or "://" in uri else os.path.realpath(os.path.expanduser(uri))
