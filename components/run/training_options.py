"""What determines a training, under the names of `training_hub.osft`."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from components.shared.options import (
    Rule,
    check_rules,
    from_mapping,
    integer,
    number,
    one_of,
    option,
    or_none,
    set_option,
)
from components.shared.problems import Checks, list_some, quote, suggest

# transformers.SchedulerType without the ones that need an argument of their own, with the arguments that each knows;
# read here, not imported: the command line checks options before it loads anything heavy. A test compares the two.
SCHEDULERS: dict[str, tuple[str, ...]] = {
    "linear": (),
    "cosine": ("num_cycles",),
    "cosine_with_restarts": ("num_cycles",),
    "polynomial": ("lr_end", "power"),
    "constant": (),
    "constant_with_warmup": (),
    "inverse_sqrt": ("timescale",),
}

_MAPPING = Rule(text="names with values", holds=lambda v: isinstance(v, Mapping))
_PATTERNS = or_none(
    Rule(
        text="a list of strings, not empty",
        holds=lambda v: isinstance(v, tuple) and len(v) > 0 and all(isinstance(part, str) for part in v),
    ),
    "all of a layer, as mini_trainer has it",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Checked when made. Raises Problems naming every value out of its range."""

    HOLDER: ClassVar = ("--option", "training_options")

    unfreeze_rank_ratio: float = option(
        0.25, "share of each matrix' directions that may change, its weakest", number(above=0, most=1), parameter=True
    )
    num_epochs: int = option(5, "passes over the training data", integer(1), parameter=True)
    effective_batch_size: int = option(4, "samples in one optimizer step", integer(1), parameter=True)
    learning_rate: float = option(5e-6, "peak learning rate of AdamW", number(above=0, below=1), parameter=True)
    max_seq_len: int = option(
        1024, "longest sample in tokens, a longer one is an error and never dropped", integer(16), parameter=True
    )
    max_tokens_per_gpu: int = option(
        2048, "tokens in one forward pass, at least max_seq_len; bounds activations", integer(16), parameter=True
    )
    seed: int = option(42, "decides the order of the samples", integer(0), parameter=True)
    lr_scheduler: str = option("cosine", "a scheduler's name in transformers.SchedulerType", one_of(*SCHEDULERS))
    lr_scheduler_kwargs: Mapping[str, Any] = option({}, "the scheduler's own arguments", _MAPPING)
    warmup_steps: int = option(0, "optimizer steps until the learning rate is at its peak", integer(0))
    beta1: float = option(0.9, "AdamW's decay of the gradient's mean", number(least=0, below=1))
    beta2: float = option(0.95, "AdamW's decay of the squared gradient's mean", number(least=0, below=1))
    eps: float = option(1e-8, "AdamW's epsilon", number(above=0))
    weight_decay: float = option(0.0, "AdamW's weight decay", number(least=0))
    target_patterns: tuple[str, ...] | None = option(None, "parts of names of the matrices to decompose", _PATTERNS)
    train_dtype: str = option(
        "auto", "what is computed in; auto is bfloat16 on a GPU, else float32", one_of("auto", "bfloat16", "float32")
    )
    checkpoint_minutes: float | None = option(
        None,
        "time between two checkpoints, of no effect on the result",
        or_none(number(least=0), "as often as they cost little"),
    )

    def __post_init__(self) -> None:
        checks = Checks()
        check_rules(self, "training option", checks)
        if not checks.problems and self.max_tokens_per_gpu < self.max_seq_len:
            checks.add(
                f"max_tokens_per_gpu is {self.max_tokens_per_gpu}, max_seq_len is {self.max_seq_len}",
                where="training options",
                rule="a sample is computed in one piece, so max_tokens_per_gpu must be at least max_seq_len",
                remedy=f"add {set_option(type(self), 'max_tokens_per_gpu', self.max_seq_len)}, or lower max_seq_len",
            )
        if not checks.problems:
            self._check_scheduler(checks)
        checks.raise_if_any()

    def _check_scheduler(self, checks: Checks) -> None:
        known = SCHEDULERS[self.lr_scheduler]
        for name, value in self.lr_scheduler_kwargs.items():
            if name not in known:
                checks.add(
                    f"lr_scheduler_kwargs names {quote(name)}{suggest(name, known)}",
                    where="training option lr_scheduler_kwargs",
                    rule=f"the scheduler {self.lr_scheduler} knows {list_some(known) or 'no arguments'}",
                    remedy="correct the name, leave it out, or take another lr_scheduler",
                )
                continue
            rule = number(least=0, below=self.learning_rate) if name == "lr_end" else number(above=0)
            if not rule.holds(value):
                checks.add(
                    f"{name} is {quote(value)}",
                    where="training option lr_scheduler_kwargs",
                    rule=rule.text + (", the learning rate" if name == "lr_end" else ""),
                    remedy=f"leave {name} out for the scheduler's default",
                )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], further: Mapping[str, Any] | None = None) -> "TrainingOptions":
        """Options by name; see components.shared.options."""
        return from_mapping(cls, "training", values, further)

    def steps(self, samples: int) -> int:
        """Optimizer steps of a training; the last step of an epoch may have fewer samples."""
        return math.ceil(samples / self.effective_batch_size) * self.num_epochs

    def on(self, device: str) -> "TrainingOptions":
        """The options with `train_dtype` decided for 'cuda' or 'cpu'."""
        if self.train_dtype != "auto":
            return self
        return dataclasses.replace(self, train_dtype="bfloat16" if device == "cuda" else "float32")

    def as_json(self) -> dict[str, Any]:
        """The options as JSON values."""
        return dataclasses.asdict(self)

    def determining(self, gpus: int) -> dict[str, Any]:
        """Those that determine the result, as JSON values: part of the run key.

        On one GPU `max_seq_len` only says which samples are an error.
        """
        others = ("checkpoint_minutes", "max_seq_len") if gpus <= 1 else ("checkpoint_minutes",)
        return {name: value for name, value in self.as_json().items() if name not in others}
