"""Options as dataclasses: from names with values, as users and KFP give them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from components.shared.problems import Checks, quote, suggest

MAX_INTEGER = 1 << 53  # of the numbers that a float holds all of

Options = TypeVar("Options")


def from_mapping(
    kind: type[Options], what: str, values: Mapping[str, Any], further: Mapping[str, Any] | None = None
) -> Options:
    """A dataclass of options that checks itself when made.

    A whole number may come as a float, because KFP makes one of every number in a dictionary, and the reverse; a tuple
    comes as a list.

    Args:
        what: which options, for the errors: training, evaluation.
        values: those that are parameters of the pipeline of their own, or all.
        further: those of the parameter for all others.

    Raises:
        Problems: naming unknown options with the nearest known one, those that are given as a further option and are a
            parameter, and values that cannot be.
    """
    checks = Checks()
    for name in sorted(set(values) & set(further or {})):
        checks.add(
            f"{name} is given among the further options",
            where=f"{what}_options",
            rule="an option that is a parameter of its own is given by it",
            remedy=f"set the parameter {name}",
        )
    values = {**(further or {}), **values}
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    known: dict[str, Any] = {}
    for name, value in values.items():
        if name not in defaults:
            checks.add(
                f"unknown {what} option {quote(name)}{suggest(name, defaults)}",
                where=f"{what} options",
                rule=f"known are {', '.join(defaults)}",
                remedy="correct the name, or leave the option out",
            )
        elif type(defaults[name]) is int and isinstance(value, float) and value.is_integer():
            known[name] = int(value)
        elif type(defaults[name]) is float and type(value) is int and abs(value) < MAX_INTEGER:
            known[name] = float(value)
        elif defaults[name] is None and isinstance(value, list):
            known[name] = tuple(value)
        else:
            known[name] = value
    options = None
    with checks.collecting():
        options = kind(**known)
    checks.raise_if_any()
    assert options is not None
    return options
