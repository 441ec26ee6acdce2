"""YAML and TOML that somebody else wrote, within bounds on time and memory: no aliases, little depth, short numbers.

load_yaml("num_epochs: 3\n")  ->  [{"num_epochs": 3}]      one for each document
load_yaml("a: &x [1]\nb: [*x, *x]\n")  ->  ValueError: aliases like *x are not read
"""

import collections
import tomllib
from pathlib import Path
from typing import Any

import yaml

from components.shared.problems import list_some, quote

MAX_DEPTH = 20
MAX_DIGITS = 40  # of a number; more is none that anything here takes
MAX_INTEGER = 1 << 63  # as TOML has it, and KFP's API
MAX_MESSAGE = 300  # characters


def read_text(path: Path, max_bytes: int) -> str:
    """Raises OSError, and ValueError for a file that is longer or no UTF-8."""
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it is longer than {max_bytes >> 10} KiB")
    return content.decode()


def load_yaml(text: str) -> list[Any]:
    """Every document of a YAML text. Raises ValueError, with what is wrong."""
    try:
        return list(yaml.load_all(text, _Loader))
    # PyYAML's constructors raise what they will: !!int '', !!bool x, !!timestamp x, a sexagesimal of 400 digits.
    except (
        yaml.YAMLError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(" ".join(str(error).split())[:MAX_MESSAGE]) from None


def load_toml(text: str) -> dict[str, Any]:
    """Raises ValueError, with what is wrong."""
    try:
        values = tomllib.loads(text)
    except (RecursionError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())[:MAX_MESSAGE]) from None
    check_plain(values)
    return values


def check_plain(value: Any) -> None:
    """Raises ValueError for what lies deeper than MAX_DEPTH, and for integers beyond 64 bits."""
    waiting = [(value, 0)]
    while waiting:
        inner, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        if isinstance(inner, int) and not -MAX_INTEGER <= inner < MAX_INTEGER:
            raise ValueError("it holds an integer of more than 64 bits")
        if isinstance(inner, dict):
            waiting += [(one, depth + 1) for one in inner.values()]
        elif isinstance(inner, list):
            waiting += [(one, depth + 1) for one in inner]


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases like *{self.peek_event().anchor} are not read")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {MAX_DEPTH} deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Names are given once; yaml itself would take the last of them."""
        counts = collections.Counter(str(name.value) for name, _ in node.value if isinstance(name, yaml.ScalarNode))
        if twice := sorted(name for name, count in counts.items() if count > 1):
            raise yaml.YAMLError(f"given twice: {list_some(twice)}")
        return super().construct_mapping(node, deep)

    def short_int(self, node: Any) -> int:
        return self.construct_yaml_int(_short(node))

    def short_float(self, node: Any) -> float:
        return self.construct_yaml_float(_short(node))


def _short(node: Any) -> Any:
    if len(node.value) > MAX_DIGITS:
        raise yaml.YAMLError(f"{quote(node.value)} is too long for a number")
    return node


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.short_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.short_float)
