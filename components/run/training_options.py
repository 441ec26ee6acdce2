"""What determines a training, under the names of `training_hub`'s osft, lora_sft and sft."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from components.shared.options import (
    Declared,
    Rule,
    boolean,
    check_rules,
    declared,
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

TEXT, DROP = CONTROL_TOKENS = ("text", "drop")  # what becomes of them in words of the data

OSFT, LORA, SFT = METHODS = ("osft", "lora_sft", "sft")  # training_hub's functions of these names

_MAPPING = Rule(text="names with values", holds=lambda v: isinstance(v, Mapping))
_PATTERNS = or_none(
    Rule(
        text="a list of strings, not empty",
        holds=lambda v: isinstance(v, tuple) and len(v) > 0 and all(isinstance(part, str) for part in v),
    ),
    "all of a layer",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Checked when made. Raises Problems naming every value out of its range."""

    HOLDER: ClassVar = ("--option", "training_options")

    method: str = option(
        OSFT, "function of training_hub that trains: OSFT, LoRA, or all weights", one_of(*METHODS), parameter=True
    )
    unfreeze_rank_ratio: float = option(
        0.25,
        "share of each matrix' directions that may change, its weakest",
        number(above=0, most=1),
        parameter=True,
        only_for=(OSFT, LORA),
    )
    num_epochs: int = option(5, "passes over the training data", integer(1, 10_000), parameter=True)
    effective_batch_size: int = option(4, "samples in one optimizer step", integer(1, 1 << 20), parameter=True)
    learning_rate: float = option(5e-6, "peak learning rate of AdamW", number(above=0, below=1), parameter=True)
    max_seq_len: int = option(
        1024,
        "longest sample in tokens, a longer one is an error and never dropped",
        integer(16, 1 << 20),
        parameter=True,
    )
    max_tokens_per_gpu: int = option(
        2048,
        "tokens in one forward pass, at least max_seq_len; bounds activations",
        integer(16, 1 << 24),
        parameter=True,
    )
    seed: int = option(
        42, "decides the order of the samples and the adapters' start", integer(0, (1 << 63) - 1), parameter=True
    )
    lr_scheduler: str = option("cosine", "a scheduler's name in transformers.SchedulerType", one_of(*SCHEDULERS))
    lr_scheduler_kwargs: Mapping[str, Any] = option({}, "the scheduler's own arguments", _MAPPING)
    warmup_steps: int = option(0, "optimizer steps until the learning rate is at its peak", integer(0, 1 << 31))
    beta1: float = option(0.9, "AdamW's decay of the gradient's mean", number(least=0, below=1))
    beta2: float = option(0.95, "AdamW's decay of the squared gradient's mean", number(least=0, below=1))
    eps: float = option(1e-8, "AdamW's epsilon", number(above=0, most=1))
    weight_decay: float = option(0.0, "AdamW's weight decay", number(least=0, most=10))
    target_patterns: tuple[str, ...] | None = option(
        None, "parts of names of the matrices to decompose", _PATTERNS, only_for=(OSFT,)
    )
    train_unfactored: bool = option(
        True,
        "train what is not decomposed, too: embeddings, output layer, norms, matrices that no pattern names",
        boolean(),
        only_for=(OSFT,),
    )
    lora_r: int = option(16, "rank of the adapters", integer(1, 1 << 16), only_for=(LORA,))
    lora_alpha: int = option(32, "an adapter counts by this over its rank", integer(1, 1 << 16), only_for=(LORA,))
    lora_dropout: float = option(
        0.0, "share of an adapter's inputs that is left out at random", number(least=0, below=1), only_for=(LORA,)
    )
    target_modules: tuple[str, ...] | None = option(
        None, "parts of names of the matrices that get adapters", _PATTERNS, only_for=(LORA,)
    )
    use_rslora: bool = option(
        False, "an adapter counts by lora_alpha over the square root of its rank (rsLoRA)", boolean(), only_for=(LORA,)
    )
    train_dtype: str = option(
        "auto", "what is computed in; auto is bfloat16 on a GPU, else float32", one_of("auto", "bfloat16", "float32")
    )
    checkpoint_minutes: float | None = option(
        None,
        "time between two checkpoints, of no effect on the result",
        or_none(number(least=0, most=1e6), "as often as they cost little"),
    )
    control_tokens: str = option(
        TEXT,
        "words of the data that are control tokens of the model: trained on as plain text, or such rows dropped",
        one_of(*CONTROL_TOKENS),
    )
    lora_protect: bool = option(
        False,
        "keep the adapters' change out of the directions that unfreeze_rank_ratio leaves to no change (OPLoRA)",
        boolean(),
        only_for=(LORA,),
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
            self._check_method(checks)
        checks.raise_if_any()

    def _check_method(self, checks: Checks) -> None:
        for name, found in declared(type(self)).items():
            value = getattr(self, name)
            if not self._uses(found) and value != found.default:
                condition = ", there with lora_protect" if LORA in found.only_for[1:] else ""
                checks.add(
                    f"{name} is {quote(value)}, method is {self.method}",
                    where=f"training option {name}",
                    rule=f"{name} belongs to the method {' or '.join(found.only_for)}{condition}",
                    remedy=f"leave {name} out, or add {set_option(type(self), 'method', found.only_for[0])}",
                )

        if not self.train_unfactored and self.unfreeze_rank_ratio == 1:
            checks.add(
                "train_unfactored is 'False', unfreeze_rank_ratio is '1.0'",
                where="training option train_unfactored",
                rule="at a ratio of 1 no matrix is decomposed, so nothing would be trained",
                remedy=f"leave train_unfactored out, or add {set_option(type(self), 'unfreeze_rank_ratio', 0.25)}",
            )

    def _uses(self, found: Declared) -> bool:
        """Whether the method has this option."""
        if found.name == "unfreeze_rank_ratio":
            return self.protects
        return not found.only_for or self.method in found.only_for

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

    @property
    def targets_option(self) -> str:
        """The option that names the matrices which the method treats in its own way; empty where there are none."""
        return {OSFT: "target_patterns", LORA: "target_modules"}.get(self.method, "")

    @property
    def targets(self) -> tuple[str, ...] | None:
        """Parts of these matrices' names; None for all of a layer."""
        return getattr(self, self.targets_option) if self.targets_option else ()

    @property
    def protects(self) -> bool:
        """Whether the strongest directions of the matrices are kept out of every change."""
        return self.method == OSFT or (self.method == LORA and self.lora_protect)

    @property
    def trains_rest(self) -> bool:
        """Whether all other weights are trained: embeddings, output layer, norms, other matrices."""
        return self.method == SFT or (self.method == OSFT and self.train_unfactored)

    def with_targets(self, patterns: tuple[str, ...]) -> "TrainingOptions":
        """The options with `targets` decided."""
        decided: dict[str, Any] = {self.targets_option: patterns} if self.targets is None else {}
        return dataclasses.replace(self, **decided)

    def as_json(self) -> dict[str, Any]:
        """The options as JSON values, which training_hub wants as well: a list is no tuple."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def arguments(self) -> dict[str, Any]:
        """What the method's function in training_hub is given: the options that the method has."""
        names = [name for name, found in declared(type(self)).items() if self._uses(found) and name != "method"]
        return {name: value for name, value in self.as_json().items() if name in names}

    def determining(self, gpus: int) -> dict[str, Any]:
        """Those that determine the result, as JSON values: part of the run key.

        On one GPU `max_seq_len` only says which samples are an error. The method OSFT, its weights that are trained
        whole and control tokens as text are not named: there was nothing else when the first runs got their keys.
        """
        others = {"checkpoint_minutes", "max_seq_len"} if gpus <= 1 else {"checkpoint_minutes"}
        later = ("train_unfactored", "control_tokens")
        others |= {name for name in later if getattr(self, name) == declared(type(self))[name].default}
        method = {} if self.method == OSFT else {"method": self.method}
        return method | {name: value for name, value in self.arguments().items() if name not in others}
