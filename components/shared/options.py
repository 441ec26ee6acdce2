"""Options as dataclasses. A field says everything about its option in one place: default, rule, help.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class TrainingOptions:
        num_epochs: int = option(5, "passes over the training data", integer(1), parameter=True)

Command-line flags, the pipeline's help in the dashboard and the documents' tables are made of it. A parameter has a
flag and a field of its own in the dashboard; the other options go by name into one parameter for all of them.
"""

import dataclasses
import json
import math
import shlex
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from components.shared.problems import Checks, quote, suggest

ANY_STRING = "a string"
MAX_INTEGER = 1 << 53  # of the numbers that a float holds all of

Options = TypeVar("Options")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """What a value may be."""

    text: str
    holds: Callable[[Any], bool]


def integer(least: int, most: int | None = None) -> Rule:
    text = f"an integer from {least}" + ("" if most is None else f" to {most}")
    return Rule(text=text, holds=lambda v: type(v) is int and v >= least and (most is None or v <= most))


def number(
    *, least: float | None = None, above: float | None = None, most: float | None = None, below: float | None = None
) -> Rule:
    """A finite number between bounds: from `least` or above `above`, to `most` or below `below`."""
    lower = f"from {least:g}" if least is not None else f"above {above:g}"
    upper = f" and below {below:g}" if below is not None else ""
    if most is not None:
        upper = f" to {most:g}" if least is not None else f" and up to {most:g}"

    def holds(value: Any) -> bool:
        if type(value) is not int and not (type(value) is float and math.isfinite(value)):
            return False
        enough = value >= least if least is not None else value > (above or 0.0)
        return enough and (most is None or value <= most) and (below is None or value < below)

    return Rule(text=f"a number {lower}{upper}", holds=holds)


def one_of(*choices: str) -> Rule:
    return Rule(text=f"one of {', '.join(choices)}", holds=lambda v: isinstance(v, str) and v in choices)


def string(text: str = ANY_STRING, holds: Callable[[str], bool] = lambda _: True) -> Rule:
    return Rule(text=text, holds=lambda v: isinstance(v, str) and holds(v))


def or_none(rule: Rule, meaning: str) -> Rule:
    return Rule(text=f"{rule.text}; null for {meaning}", holds=lambda v: v is None or rule.holds(v))


def option(default: Any, help: str, rule: Rule, *, parameter: bool = False) -> Any:
    """A field of a dataclass of options. The help is a phrase without a full stop and without the rule; a
    `parameter` of the pipeline has a flag of its own."""
    metadata = {"help": help, "rule": rule, "parameter": parameter}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Declared:
    """What a dataclass declares about one of its options."""

    name: str
    kind: type
    default: Any
    help: str
    rule: Rule
    parameter: bool

    @property
    def text(self) -> str:
        """Help and rule: 'passes over the training data; an integer from 1'."""
        return self.help if self.rule.text == ANY_STRING else f"{self.help}; {self.rule.text}"


def declared(kind: type) -> dict[str, Declared]:
    """The options of a dataclass, by name."""
    return {
        field.name: Declared(
            name=field.name,
            kind=field.type if isinstance(field.type, type) else str,
            default={} if field.default is dataclasses.MISSING else field.default,
            help=field.metadata["help"],
            rule=field.metadata["rule"],
            parameter=field.metadata["parameter"],
        )
        for field in dataclasses.fields(kind)
    }


def parameters_of(kind: type) -> dict[str, Declared]:
    """Those that are parameters of the pipeline."""
    return {name: found for name, found in declared(kind).items() if found.parameter}


def set_option(kind: type, name: str, value: Any) -> str:
    """How an option is set on the command line, and on a cluster: for the remedy of an error.

    The dataclass says in HOLDER by which flag and in which parameter its options go that are no parameters; without a
    flag each has its own.
    """
    flag, holder = kind.HOLDER  # type: ignore[attr-defined]
    written = value if isinstance(value, str) else json.dumps(value)
    own = f"--{name.replace('_', '-')}" + ("" if value is True else f" {shlex.quote(written)}")
    if declared(kind)[name].parameter:
        return f"{own} (on a cluster: {name}={written})"
    typed = f"{flag} {shlex.quote(f'{name}={written}')}" if flag else own
    return f"{typed} (on a cluster: {holder}={json.dumps({name: value})})"


def check_rules(options: Any, where: str, checks: Checks, shown: Callable[[Any], str] = quote) -> None:
    """Add a problem for each option whose value breaks its rule. `where` says what the options are of, as in
    'training option'; `shown` makes of a value what an error may repeat."""
    for name, found in declared(type(options)).items():
        value = getattr(options, name)
        if not found.rule.holds(value):
            checks.add(
                f"{name} is {shown(value)}",
                where=f"{where} {name}",
                rule=found.rule.text,
                remedy=f"for instance {set_option(type(options), name, found.default)}, the default",
            )


def from_mapping(
    kind: type[Options], what: str, values: Mapping[str, Any], further: Mapping[str, Any] | None = None
) -> Options:
    """A dataclass of options that checks itself when made, out of the parameters of that name and of those that the
    parameter for all others holds.

    An integer may come as a float, because KFP makes one of every number in a dictionary, and the reverse; a tuple
    comes as a list. Raises Problems naming unknown options with the nearest known one, those that are given as a
    further option and are a parameter, and values that cannot be."""
    checks = Checks()
    for name in sorted(set(values) & set(further or {})):
        checks.add(
            f"{name} is given among the further options",
            where=f"{what}_options",
            rule="an option that is a parameter of its own is given by it",
            remedy=f"take it out there, and add {set_option(kind, name, (further or {})[name])}"
            if name in declared(kind)
            else "take it out there",
        )
    values = {**(further or {}), **values}
    defaults = {name: found.default for name, found in declared(kind).items()}
    known: dict[str, Any] = {}
    for name, value in values.items():
        if name not in defaults:
            checks.add(
                f"unknown {what} option {quote(name)}{suggest(name, defaults)}",
                where=f"{what} options",
                rule=f"known are {', '.join(defaults)}",
                remedy=getattr(kind, "REPLACED", {}).get(name, "correct the name, or leave the option out"),
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
