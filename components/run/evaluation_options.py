"""What a run asks of the evaluation."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from components.shared.addresses import is_plain_address
from components.shared.options import (
    Rule,
    check_rules,
    from_mapping,
    integer,
    number,
    one_of,
    option,
    set_option,
    string,
)
from components.shared.problems import Checks, quote

REWIND = ""  # the default of `rewind`
AUTO, ENDPOINT, LOCAL, RULES = "auto", "endpoint", "local", "rules"  # who grades
ADDRESS = (
    "http:// or https:// with a host, and without a user, a password or a query: its key is the secret's JUDGE_API_KEY"
)


TASK_NAMES = re.compile(r"[\w.+, -]*", re.ASCII)  # the harness would run what a file of tasks says
_TASKS = string("names, comma-separated", lambda names: bool(TASK_NAMES.fullmatch(names)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Checked when made.

    Raises:
        Problems: naming every value that cannot be.
    """

    HOLDER: ClassVar = ("", "evaluation_options")
    REPLACED: ClassVar = {
        "closed_min": "leave it out: a good model's gain must be shown, by an interval above 0",
        "regressed_max": "use regressed_share_max, a share: for instance 0.1",
        "retention_drop_max": "use retention_margin, percentage points: for instance 10",
    }
    """What to do about options of earlier releases."""

    judge_url: str = option(
        "",
        "OpenAI-compatible endpoint of a judge model; empty for a judge on the GPU",
        string(ADDRESS, lambda url: not url or is_plain_address(url)),
        parameter=True,
    )
    judge_model: str = option(
        "",
        "name of the judge model there, or of the model that judges on the GPU: org/name on the hub, a folder or "
        "s3://bucket/folder; empty for the base model itself",
        string("a name, a folder or s3://, no other address", lambda model: "://" not in model.removeprefix("s3://")),
        parameter=True,
    )
    regressed_share_max: float = option(
        0.1, "share of the gap questions that may regress in a good model", number(least=0, most=1), parameter=True
    )
    retention_margin: float = option(
        10.0,
        "percentage points: a good model is shown to lose less than that on general questions",
        number(above=0, most=100),
        parameter=True,
    )
    grader: str = option(
        AUTO,
        "who grades the answers; auto for the endpoint where judge_url names one, else a judge on the GPU, else the "
        "reference rules",
        one_of(AUTO, ENDPOINT, LOCAL, RULES),
    )
    accept_differences: bool = option(
        False,
        "evaluate models whose tokenizer, chat template or end tokens differ, and say so",
        Rule(text="true or false", holds=lambda v: isinstance(v, bool)),
    )
    judge_concurrency: int = option(8, "requests to the judge's endpoint at a time, at most", integer(1, 256))
    judge_timeout_seconds: int = option(60, "seconds to wait for the endpoint's reply", integer(1, 3600))
    judge_reply_tokens: int = option(
        400, "tokens of a reply of the endpoint, at most; a reasoning model needs thousands", integer(16, 65536)
    )
    max_answer_tokens: int = option(256, "tokens after which an answer is cut", integer(1, 4096))
    lm_eval_tasks: str = option("", "lm-evaluation-harness tasks to run on both models", _TASKS)

    rewind: str = option(
        REWIND,
        "shares of the training's change to go back to when all of it does not pass, the largest that passes is "
        "published; empty for none",
        string(
            "numbers above 0 and below 1 with up to three decimals, comma-separated, as in 0.75,0.5,0.25",
            lambda text: all(re.fullmatch(r"0?\.\d{1,3}", part) and float(part) > 0 for part in _split(text)),
        ),
    )

    def __post_init__(self) -> None:
        checks = Checks()
        check_rules(self, "parameter", checks, _without_secrets)
        if isinstance(self.judge_url, str) and self.judge_url and self.judge_model == "":
            checks.add(
                "judge_url is given without judge_model",
                where="parameter judge_model",
                rule="an endpoint is asked for a model by its name",
                remedy=f"add {set_option(EvaluationOptions, 'judge_model', 'NAME')}",
            )
        if self.grader in (LOCAL, ENDPOINT) and bool(self.judge_url) != (self.grader == ENDPOINT):
            checks.add(
                f"grader is {self.grader}, and judge_url is {'given' if self.judge_url else 'empty'}",
                where="evaluation option grader",
                rule="an endpoint has an address, a judge on the GPU has none",
                remedy="leave grader out, or judge_url",
            )
        checks.raise_if_any()

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], further: Mapping[str, Any] | None = None) -> "EvaluationOptions":
        """Options by name; see components.shared.options."""
        return from_mapping(cls, "evaluation", values, further)

    @property
    def local_judge(self) -> str:
        """The model that judges on the GPU, where it is not the base model; empty otherwise."""
        return "" if self.judge_url or self.grader == RULES else self.judge_model

    @property
    def tasks(self) -> list[str]:
        """Names of lm-evaluation-harness tasks."""
        return _split(self.lm_eval_tasks)

    @property
    def rewind_shares(self) -> list[float]:
        """Of the training's change, the largest first."""
        return sorted({float(part) for part in _split(self.rewind)}, reverse=True)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _without_secrets(value: Any) -> str:
    """A value for an error text, unless it is an address that may hold a password or a key."""
    if set("@?#") & set(str(value)):
        return "a text that may hold a password or a key and is not repeated here"
    return quote(value)
