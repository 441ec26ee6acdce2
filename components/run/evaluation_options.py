"""What a run asks of the evaluation."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from components.shared.options import check_rules, from_mapping, integer, number, option, string
from components.shared.problems import Checks, quote

ADDRESS = (
    "http:// or https:// with a host, and without a user, a password or a query: its key is the secret's JUDGE_API_KEY"
)


def is_plain_address(url: str) -> bool:
    """Whether this is http:// or https:// with a host, and without a user, a password, a query or a fragment."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # brackets or a port that cannot be
        return False
    whole = parts.scheme in ("http", "https") and bool(parts.hostname) and not any(map(str.isspace, url))
    return whole and not (parts.username or parts.password or parts.query or parts.fragment)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Checked when made.

    Raises:
        Problems: naming every value that cannot be.
    """

    HOLDER: ClassVar = ("", "evaluation_options")

    judge_url: str = option(
        "",
        "OpenAI-compatible endpoint of a judge model, empty to grade against the references",
        string(ADDRESS, lambda url: not url or is_plain_address(url)),
        parameter=True,
    )
    judge_model: str = option("", "name of the judge model there", string(), parameter=True)
    closed_min: int = option(
        1, "acceptance threshold: gap questions that must be closed at least", integer(0), parameter=True
    )
    regressed_max: int = option(
        1, "acceptance threshold: gap questions that may regress at most", integer(0), parameter=True
    )
    retention_drop_max: float = option(
        5.0,
        "acceptance threshold: percentage points that general knowledge may drop",
        number(least=0, most=100),
        parameter=True,
    )
    judge_concurrency: int = option(8, "requests to the judge's endpoint at a time, at most", integer(1, 256))
    judge_timeout_seconds: int = option(60, "seconds to wait for the endpoint's reply", integer(1, 3600))
    judge_reply_tokens: int = option(
        400, "tokens of a reply of the endpoint, at most; a reasoning model needs thousands", integer(16, 65536)
    )
    max_answer_tokens: int = option(256, "tokens after which an answer is cut", integer(1, 4096))
    lm_eval_tasks: str = option("", "lm-evaluation-harness tasks to run on both models, comma-separated", string())

    def __post_init__(self) -> None:
        checks = Checks()
        check_rules(self, "parameter", checks, _without_secrets)
        strings = isinstance(self.judge_url, str) and isinstance(self.judge_model, str)
        if strings and bool(self.judge_url) != bool(self.judge_model):
            checks.add(
                f"judge_model is {_without_secrets(self.judge_model)}",
                where="parameter judge_model",
                rule="judge_url and judge_model are given both or not at all",
                remedy="give both, or none",
            )
        checks.raise_if_any()

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], further: Mapping[str, Any] | None = None) -> "EvaluationOptions":
        """Options by name; see components.shared.options."""
        return from_mapping(cls, "evaluation", values, further)

    @property
    def tasks(self) -> list[str]:
        """Names of lm-evaluation-harness tasks."""
        return [name.strip() for name in self.lm_eval_tasks.split(",") if name.strip()]


def _without_secrets(value: Any) -> str:
    """A value for an error text, unless it is an address that may hold a password or a key."""
    if set("@?#") & set(str(value)):
        return "a text that may hold a password or a key and is not repeated here"
    return quote(value)
