"""Command-line flags out of the options' declarations.

@app.command()
@with_flags({"Training": parameters_of(TrainingOptions)})
def run(**given: Any) -> None: ...    # what was given on the command line, by name, and nothing else
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar

import typer

from components.shared.options import Declared
from components.shared.problems import problem

KEYWORD = inspect.Parameter.KEYWORD_ONLY
Command = TypeVar("Command", bound=Callable[..., Any])


def with_flags(
    panels: Mapping[str, Mapping[str, Declared]], replaced: Iterable[str] = ()
) -> Callable[[Command], Command]:
    """Let a command take a flag for each option, under its panel's heading; they reach its **keywords. Names of
    earlier releases are hidden: what checks the options refuses them."""
    flags: dict[str, Any] = {name: Annotated[str | None, typer.Option(hidden=True)] for name in replaced}
    flags |= {name: _annotation(option, panel) for panel, options in panels.items() for name, option in options.items()}
    added = [inspect.Parameter(name, KEYWORD, default=None, annotation=kind) for name, kind in flags.items()]
    return lambda command: with_parameters(command, added, before=True)


def with_parameters(command: Command, added: Iterable[inspect.Parameter], before: bool = False) -> Command:
    """Let typer see further parameters of a command, which reach it in its **keywords."""
    own = inspect.signature(command).parameters.values()
    kept = [one.replace(kind=KEYWORD) for one in own if one.kind is not one.VAR_KEYWORD]
    whole = [*added, *kept] if before else [*kept, *added]
    command.__signature__ = inspect.Signature(whole)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in whole}
    return command


def given_only(values: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given."""
    return {name: value for name, value in values.items() if value is not None}


def parse_options(texts: list[str], flag: str, example: str) -> dict[str, Any]:
    """name=value pairs; a value is JSON where it can be read as such, and a string otherwise. Raises Problems when
    there is no equals sign, with an example."""
    import json

    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise problem(
                f"{flag} {text!r} has no value",
                where="command line",
                rule="name=value",
                remedy=f"for instance {flag} {example}",
            )
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def _annotation(option: Declared, panel: str) -> Any:
    text = f"{option.text[0].upper()}{option.text[1:]}."
    default = f" Default: {option.default}" if option.default not in ("", None) else ""
    return Annotated[option.kind | None, typer.Option(help=text + default, rich_help_panel=panel, show_default=False)]
