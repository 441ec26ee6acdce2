"""What a run asks of the evaluation; the only place of the defaults."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from components.shared.options import from_mapping
from components.shared.problems import Checks, quote

DESCRIPTIONS = {
    "judge_url": "OpenAI-compatible endpoint of a judge model; empty: answers are judged by the references",
    "judge_model": "name of the judge model there",
    "closed_min": "good enough: at least so many gap questions closed",
    "regressed_max": "good enough: at most so many gap questions lost",
    "retention_drop_max": "good enough: general knowledge drops by at most so many percentage points",
    "max_answer_tokens": "an answer is cut after so many tokens",
    "lm_eval_tasks": "tasks of lm-evaluation-harness to run on both models, commas between",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Checked when made.

    Raises:
        Problems: naming every value that cannot be.
    """

    judge_url: str = ""
    judge_model: str = ""
    closed_min: int = 1
    regressed_max: int = 1
    retention_drop_max: float = 5.0
    max_answer_tokens: int = 256
    lm_eval_tasks: str = ""

    def __post_init__(self) -> None:
        checks = Checks()

        def rule(name: str, text: str, holds: bool, remedy: str = "") -> None:
            if not holds:
                checks.add(
                    f"{name} is {_without_secrets(getattr(self, name))}",
                    where=f"parameter {name}",
                    rule=text,
                    remedy=remedy or f"use for instance {name}={_DEFAULTS[name]!r}, the default",
                )

        for name in ("closed_min", "regressed_max"):
            value = getattr(self, name)
            rule(name, "a whole number from 0", type(value) is int and value >= 0)
        rule("retention_drop_max", "a number from 0 to 100", _within(self.retention_drop_max, 0, 100))
        tokens = self.max_answer_tokens
        rule("max_answer_tokens", "a whole number from 1 to 4096", type(tokens) is int and 1 <= tokens <= 4096)
        texts = [name for name, default in _DEFAULTS.items() if default == ""]
        for name in texts:
            rule(name, "text", isinstance(getattr(self, name), str))
        if all(isinstance(text, str) for text in (self.judge_url, self.judge_model)):
            rule(
                "judge_url",
                "http:// or https:// with a host, and without a user, a password or a query: secrets come from the "
                "secret's JUDGE_API_KEY",
                not self.judge_url or is_plain_address(self.judge_url),
                "for instance judge_url='https://judge.example/v1'",
            )
            both = bool(self.judge_url) == bool(self.judge_model)
            rule("judge_model", "judge_url and judge_model are given both or not at all", both, "give both, or none")
        checks.raise_if_any()

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], further: Mapping[str, Any] | None = None) -> "EvaluationOptions":
        """Options by name; see components.shared.options."""
        return from_mapping(cls, "evaluation", values, further)

    @property
    def tasks(self) -> list[str]:
        """Names of lm-evaluation-harness tasks."""
        return [name.strip() for name in self.lm_eval_tasks.split(",") if name.strip()]


def _within(value: Any, least: float, most: float) -> bool:
    return type(value) in (int, float) and least <= value <= most


def is_plain_address(url: str) -> bool:
    """Whether this is http:// or https:// with a host, and without a user, a password, a query or a fragment."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # brackets or a port that cannot be
        return False
    whole = parts.scheme in ("http", "https") and bool(parts.hostname) and not any(map(str.isspace, url))
    return whole and not (parts.username or parts.password or parts.query or parts.fragment)


def _without_secrets(value: Any) -> str:
    """A value for an error text, unless it is an address that may hold a password or a key."""
    if set("@?#") & set(str(value)):
        return "a text that may hold a password or a key and is not repeated here"
    return quote(value)


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(EvaluationOptions)}
