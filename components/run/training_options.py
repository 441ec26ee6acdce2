"""What determines a training, under the names of `training_hub.osft`; the only place of their defaults."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from components.shared.options import from_mapping
from components.shared.problems import Checks, list_some, quote, suggest

DESCRIPTIONS = {
    "unfreeze_rank_ratio": "share of each matrix' directions that may change, above 0 and up to 1",
    "num_epochs": "passes over the training data",
    "effective_batch_size": "samples in one optimizer step",
    "learning_rate": "peak step size of AdamW",
    "max_seq_len": "longest sample in tokens; longer ones are an error, never dropped",
    "max_tokens_per_gpu": "tokens computed at once; bounds the memory that activations need",
    "seed": "decides the order of the samples",
}

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Checked when made.

    Raises:
        Problems: naming every value out of its range.
    """

    unfreeze_rank_ratio: float = 0.25
    """Share of each matrix' singular directions that may change; the others, the strongest ones, stay as they are."""
    num_epochs: int = 5
    effective_batch_size: int = 4
    """Samples in one optimizer step."""
    learning_rate: float = 5e-6
    """Peak learning rate of AdamW."""
    max_seq_len: int = 1024
    """Longest sample, in tokens."""
    max_tokens_per_gpu: int = 2048
    """Tokens in one forward pass; a step with more is split into several passes."""
    seed: int = 42
    lr_scheduler: str = "cosine"
    """A scheduler's name in transformers.SchedulerType."""
    lr_scheduler_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    warmup_steps: int = 0
    """Optimizer steps until the learning rate is at its peak."""
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    target_patterns: tuple[str, ...] | None = None
    """Parts of parameter names to decompose; None: all of a layer's, as mini_trainer has it."""
    train_dtype: str = "auto"
    """What is computed in: bfloat16 (trained weights keep what it would lose), float32, or auto: bfloat16 on a GPU."""
    checkpoint_minutes: float | None = None
    """Time between two checkpoints; None: as often as costs little. Does not change the result."""

    def __post_init__(self) -> None:
        checks = Checks()
        for name, (rule, holds) in _RULES.items():
            value = getattr(self, name)
            if not holds(value):
                checks.add(
                    f"{name} is {quote(value)}",
                    where=f"training option {name}",
                    rule=rule,
                    remedy=f"use for instance {name}={_DEFAULTS[name]!r}, the default",
                )
        if not checks.problems and self.max_tokens_per_gpu < self.max_seq_len:
            checks.add(
                f"max_tokens_per_gpu is {self.max_tokens_per_gpu}, max_seq_len is {self.max_seq_len}",
                where="training options",
                rule="a sample is computed in one piece, so max_tokens_per_gpu must be at least max_seq_len",
                remedy=f"set max_tokens_per_gpu to {self.max_seq_len} or more, or lower max_seq_len",
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
            rule, holds = "a number above 0", _number(value, lambda x: x > 0)
            if name == "lr_end":
                rule, holds = (
                    "a number from 0 and below learning_rate",
                    _number(value, lambda x: 0 <= x < self.learning_rate),
                )
            if not holds:
                checks.add(
                    f"{name} is {quote(value)}",
                    where="training option lr_scheduler_kwargs",
                    rule=rule,
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


def _whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _number(value: Any, holds: Callable[[float], bool]) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and holds(value)


_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "unfreeze_rank_ratio": ("a number above 0 and up to 1", lambda v: _number(v, lambda x: 0 < x <= 1)),
    "num_epochs": ("a whole number from 1", lambda v: _whole(v, 1)),
    "effective_batch_size": ("a whole number from 1", lambda v: _whole(v, 1)),
    "learning_rate": ("a number above 0 and below 1", lambda v: _number(v, lambda x: 0 < x < 1)),
    "max_seq_len": ("a whole number from 16", lambda v: _whole(v, 16)),
    "max_tokens_per_gpu": ("a whole number from 16", lambda v: _whole(v, 16)),
    "seed": ("a whole number from 0", lambda v: _whole(v, 0)),
    "lr_scheduler": (f"one of {', '.join(SCHEDULERS)}", lambda v: v in tuple(SCHEDULERS)),
    "lr_scheduler_kwargs": ("names with values", lambda v: isinstance(v, Mapping)),
    "warmup_steps": ("a whole number from 0", lambda v: _whole(v, 0)),
    "beta1": ("a number from 0 and below 1", lambda v: _number(v, lambda x: 0 <= x < 1)),
    "beta2": ("a number from 0 and below 1", lambda v: _number(v, lambda x: 0 <= x < 1)),
    "eps": ("a number above 0", lambda v: _number(v, lambda x: x > 0)),
    "weight_decay": ("a number from 0", lambda v: _number(v, lambda x: x >= 0)),
    "train_dtype": ("auto, bfloat16 or float32", lambda v: v in ("auto", "bfloat16", "float32")),
    "checkpoint_minutes": (
        "a number from 0, or nothing for as often as costs little",
        lambda v: v is None or _number(v, lambda x: x >= 0),
    ),
    "target_patterns": (
        "a list of parts of parameter names, or nothing",
        lambda v: v is None or (isinstance(v, tuple) and len(v) > 0 and all(isinstance(part, str) for part in v)),
    ),
}

_DEFAULTS: dict[str, Any] = {
    field.name: {} if field.default is dataclasses.MISSING else field.default
    for field in dataclasses.fields(TrainingOptions)
}
