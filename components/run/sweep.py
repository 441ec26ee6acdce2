"""The settings of a sweep: several trainings on the same data, model and questions.

    settings:
      - {name: osft, learning_rate: [1e-5, 5e-5]}        # a list: one setting for each of its values
      - {name: lora, method: lora_sft, learning_rate: 2e-4}

gives the settings osft-1e-05, osft-5e-05 and lora. Where an option's value is a list itself, as of target_patterns, its
alternatives are lists of lists. What all settings share are the run's own parameters.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from components.run.training_options import TrainingOptions
from components.shared.options import declared, parameters_of
from components.shared.problems import Checks, list_some, quote, suggest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # of a file and of a folder, too
MAX_SETTINGS = 100
HELP = (
    "what is tried, one after the other: a list of settings, each with a name and the training options that it "
    "changes, or lists of their values to try all combinations"
)
FILLED_IN = ("target_patterns", "target_modules")  # by the plan, where they are not given
EXAMPLE = '[{"name": "osft", "learning_rate": [1e-5, 5e-5]}, {"name": "lora", "method": "lora_sft"}]'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """One training of a sweep."""

    name: str
    options: dict[str, Any]
    """Training options by name, those that are parameters and others; they go over what all settings share."""

    def over(self, shared: Mapping[str, Any], further: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The options of this training: those that are parameters, and the further ones."""
        names = parameters_of(TrainingOptions)
        own = {name: value for name, value in self.options.items() if name in names}
        return {**shared, **own}, {**further, **{n: v for n, v in self.options.items() if n not in names}}


def read_settings(settings: Any, shared: Mapping[str, Any], further: Mapping[str, Any]) -> list[Setting]:
    """The settings with all combinations made.

    Args:
        settings: as the parameter `settings` has them.
        shared: training options that are parameters, further: the other ones, which all settings share.

    Raises:
        Problems: all at once: unknown options, values out of range, names that cannot be or come twice, settings that
            train the same.
    """
    checks = Checks()
    if not isinstance(settings, list) or not settings:
        checks.add("there are no settings", where="parameter settings", rule=HELP, remedy=f"for instance {EXAMPLE}")
        checks.raise_if_any()
    known = declared(TrainingOptions)
    read: list[Setting] = []
    for number, entry in enumerate(settings, 1):
        where = f"settings, number {number}"
        if not isinstance(entry, Mapping) or not NAME.fullmatch(str(entry.get("name", ""))):
            checks.add(
                f"setting {number} has no name that can be used",
                where=where,
                rule="a name of up to 63 letters, digits, dots, dashes and underscores, a letter or digit first",
                remedy="for instance name: lora",
            )
            continue
        options = {name: value for name, value in entry.items() if name != "name"}
        for name in sorted(options.keys() - known.keys()):
            checks.add(
                f"setting {entry['name']} has {quote(name)}, which is no training option{suggest(name, known)}",
                where=where,
                rule=f"settings differ in training options, everything else is the same for all; known are "
                f"{', '.join(known)}",
                remedy="correct the name, or give it for all settings beside `settings`",
            )
        combined = itertools.islice(_combinations(str(entry["name"]), options), MAX_SETTINGS + 1)
        read += combined if options.keys() <= known.keys() else ()
    _check_together(read, shared, further, checks)
    checks.raise_if_any()
    return read


def differing(trainings: Mapping[str, TrainingOptions]) -> dict[str, dict[str, Any]]:
    """Of trainings, by their names: the options in which they differ, as far as each has them. One that only some
    methods have is named where it is not the default, but for the matrices' names: the plan fills them in."""
    given = {name: {"method": one.method, **one.arguments()} for name, one in trainings.items()}
    known = declared(TrainingOptions)

    def is_named(option: str) -> bool:
        values = [one[option] for one in given.values() if option in one]
        lacking = len(values) < len(given) and option not in FILLED_IN
        lacking = lacking and any(value != known[option].default for value in values)
        return lacking or len({repr(value) for value in values}) > 1

    names = [option for option in known if is_named(option)]
    return {name: {one: values[one] for one in names if one in values} for name, values in given.items()}


def _combinations(name: str, options: dict[str, Any]) -> Iterator[Setting]:
    alternatives = {option: _alternatives(option, value) for option, value in options.items()}
    several = [option for option, values in alternatives.items() if len(values) > 1]
    for places in itertools.product(*(range(len(values)) for values in alternatives.values())):
        chosen = {option: alternatives[option][place] for option, place in zip(alternatives, places, strict=True)}
        at = dict(zip(alternatives, places, strict=True))
        yield Setting(name="-".join([name, *(_short(chosen[one], at[one]) for one in several)]), options=chosen)


def _alternatives(option: str, value: Any) -> list[Any]:
    """The values of an option to be tried; of a list option, that is given as one list, this list alone."""
    values = value if isinstance(value, list) and value else [value]
    if option in ("target_patterns", "target_modules") and not all(isinstance(one, list) for one in values):
        values = [value]
    kind = declared(TrainingOptions)[option].kind
    return [_as_number(one, kind) for one in values]


def _as_number(value: Any, kind: type) -> Any:
    """YAML takes 5e-6 for a string."""
    if kind in (int, float) and isinstance(value, str):
        try:
            return kind(float(value)) if float(value).is_integer() else float(value)
        except ValueError:
            return value
    return value


def _short(value: Any, place: int) -> str:
    """A value as a part of a setting's name; its place where it is no number and no plain word."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if NAME.fullmatch(text) else str(place + 1)


def _check_together(read: list[Setting], shared: Mapping[str, Any], further: Mapping[str, Any], checks: Checks) -> None:
    if len(read) > MAX_SETTINGS:
        checks.add(
            f"these are more than {MAX_SETTINGS} settings",
            where="settings",
            rule="they are trained one after the other",
            remedy="try fewer values at once",
        )
        return
    names = [setting.name for setting in read]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        checks.add(
            f"two settings have the name {list_some(twice)}",
            where="settings",
            rule="a setting is known by its name",
            remedy="give each a name of its own",
        )
    trained: dict[str, str] = {}
    for setting in read:
        found = Checks()
        with found.collecting():
            key = repr(TrainingOptions.from_mapping(*setting.over(shared, further)).determining(1))
            same = trained.setdefault(key, setting.name)
            if same != setting.name:
                found.add(
                    f"it trains the same as the setting {same}",
                    where="settings",
                    rule="a training is made once",
                    remedy="take one of the two out",
                )
        of_setting = (dataclasses.replace(one, what=f"setting {setting.name}: {one.what}") for one in found.problems)
        checks.problems.extend(of_setting)
