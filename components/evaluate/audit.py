"""Did OSFT keep its guarantee? Measured on the two models' files alone.

The change D = W_adapted - W_base of a matrix should stay out of the k strongest directions of W_base, U [out, k] and
V [in, k]. Its protected part is what lies outside the free directions, D - (I - U U') D (I - V V'); its share is
||protected part|| / ||D||. The measurement includes rounding to the files' number format, which in bfloat16 is most of
it, so the share that rounding alone would cause is estimated as well.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from components.models import shapes
from components.models.headers import weights_of
from components.run.findings import BROKEN, IN_DOUBT, KEPT, Audit, MatrixAudit
from components.shared import progress
from components.shared.problems import Checks
from components.shared.storage import read_json
from components.training.factors import decompose
from components.training.loading import open_weights

# Shares of the change's norm in protected directions, beyond rounding: training leaves hundredths of a percent, plain
# fine-tuning most of it (docs/evaluation.md).
MAX_KEPT, MIN_BROKEN = 0.01, 0.05
MAX_KEPT_IN_ONE = 0.1  # of one matrix
ROUNDING_TOLERANCE = 1.3  # the estimate is within a quarter
ARITHMETIC = 4 * torch.finfo(torch.float32).eps  # of a matrix' norm


class Weights:
    """The weights of a model folder by name, read one at a time, onto the GPU if there is one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = weights_of(folder)

    def names(self) -> list[str]:
        return sorted(self.files)

    def shapes(self) -> dict[str, list[int]]:
        """The shape of every tensor, by name."""
        with open_weights(self.folder) as weights:
            return {name: file.get_slice(name).get_shape() for name, file in weights.items()}

    def read(self, name: str) -> Tensor:
        with safe_open(self.files[name], framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor.cuda() if torch.cuda.is_available() else tensor


def audit(
    base: Path, adapted: Path, unfreeze_rank_ratio: float, patterns: tuple[str, ...], promised: bool = True
) -> Audit:
    """Audit every tensor.

    Args:
        base, adapted: model folders of the same architecture.
        unfreeze_rank_ratio: the training's.
        patterns: name parts of the matrices that were decomposed.
        promised: whether the training's method promises to keep out of their strongest directions.

    Raises:
        Problems: for tensors with NaN or infinite numbers.
    """
    before, after = Weights(base), Weights(adapted)
    names = before.names()
    checks = Checks()
    found = list(
        progress.track(_audit(before, after, unfreeze_rank_ratio, patterns, checks), len(names), "auditing tensors")
    )
    checks.raise_if_any()
    return sum_up(found, unfreeze_rank_ratio, promised)


def sum_up(matrices: list[MatrixAudit], unfreeze_rank_ratio: float, promised: bool = True) -> Audit:
    """What the matrices' audits say together."""
    protected = [one for one in matrices if one.protected]
    share = _combine(protected, [one.protected_change_ratio for one in protected])
    rounding = _combine(protected, [one.rounding_ratio for one in protected])
    excess = {one.name: beyond_rounding(one) for one in protected}
    worst = max(excess, key=excess.__getitem__, default="")
    whole = sum(one.change_norm**2 for one in matrices)
    free = sum(one.change_norm**2 for one in matrices if not one.protected)
    word = ""
    if protected:
        overall = _combine(protected, list(excess.values()))
        is_kept = overall <= MAX_KEPT and excess[worst] <= MAX_KEPT_IN_ONE
        word = KEPT if is_kept else BROKEN if overall > MIN_BROKEN else IN_DOUBT
    return Audit(
        word=word,
        promised=promised,
        unfreeze_rank_ratio=unfreeze_rank_ratio,
        protected_change_ratio=share,
        rounding_ratio=rounding,
        unprotected_share=free / whole if whole else 0.0,
        worst=worst if excess.get(worst) else "",
        identical=whole == 0,
        matrices=matrices,
    )


def beyond_rounding(one: MatrixAudit) -> float:
    """What rounding does not account for in the share of a matrix' change: of the saved numbers, whose estimate may be
    off, and of the training's own arithmetic in float32, which counts where the change is tiny.
    """
    arithmetic = ARITHMETIC / one.relative_change if one.relative_change else 0.0
    rounding = ROUNDING_TOLERANCE * one.rounding_ratio
    return math.sqrt(max(0.0, one.protected_change_ratio**2 - rounding**2 - arithmetic**2))


def _combine(audits: list[MatrixAudit], ratios: list[float]) -> float:
    inside = sum((ratio * a.change_norm) ** 2 for a, ratio in zip(audits, ratios, strict=True))
    whole = sum(a.change_norm**2 for a in audits)
    return float((inside / whole) ** 0.5) if whole else 0.0


def rounding_norm(saved: Tensor, change: Tensor) -> float:
    """Expected norm of the error that stochastic rounding to the saved tensor's format adds to a change.

    For a number between two neighbours that are u apart, at the fraction f of the way, the error is u sqrt(f (1 - f)).
    For changes larger than u every f is equally likely: u^2 / 6 on average. For smaller ones f is the change over u;
    its mean a is known, because the rounding keeps means: u^2 (a - a^2 pi / 2) if they are normally distributed. Means
    are weighted by u^2, as the large u make up most of the norm.

    Args:
        saved: the adapted model's tensor in its file's format.
        change: float32.
    """
    exponents = torch.frexp(saved.float())[1]
    spacing = torch.exp2(exponents.float()) * (torch.finfo(saved.dtype).eps / 2)
    spacing *= saved != 0  # the spacing around zero is negligible
    squares = spacing.square()
    moved = (change.abs() / spacing.clamp_min(torch.finfo(torch.float32).tiny)).clamp(max=1)
    mean = float((squares * moved).sum() / squares.sum()) if squares.any() else 0.0
    variance = mean - mean**2 * math.pi / 2 if mean < 1 / math.pi else 1 / 6
    return float(spacing.norm()) * min(1 / 6, variance) ** 0.5


def default_patterns(folder: Path) -> tuple[str, ...]:
    """The matrices that a training decomposes in this model by default."""
    return shapes.default_patterns(read_json(folder / "config.json")["model_type"])


def _audit(
    before: Weights, after: Weights, ratio: float, patterns: tuple[str, ...], checks: Checks
) -> Iterator[MatrixAudit]:
    for name in before.names():
        base, saved = before.read(name).float(), after.read(name)
        for who, folder, tensor in (("base", before.folder, base), ("adapted", after.folder, saved)):
            if not tensor.isfinite().all():
                checks.add(
                    f"the {who} model has NaN or infinite weights in {name}",
                    where=str(folder),
                    rule="weights are finite",
                    remedy="download the base model again (osft-pipeline verify)"
                    if who == "base"
                    else "look at the loss in the training's metrics.jsonl; train again with a lower learning_rate",
                )
        change = saved.float() - base
        norm = float(change.norm())
        is_target = base.ndim == 2 and shapes.is_target(name, patterns)
        rank = shapes.frozen_rank(tuple(base.shape), ratio) if is_target else 0
        inside = rounding = 0.0
        if rank > 0 and norm > 0:
            U, _, Vh = decompose(base)
            U, Vh = U[:, :rank], Vh[:rank]
            free = change - U @ (U.T @ change)
            free -= (free @ Vh.T) @ Vh
            inside = float((change - free).norm()) / norm
            out, width = base.shape
            noise = 1 - (1 - rank / out) * (
                1 - rank / width
            )  # of white noise: the share of its square in protected directions
            rounding = min(1.0, noise**0.5 * rounding_norm(saved, change) / norm)
        size = float(base.norm())
        yield MatrixAudit(
            name=name,
            protected=rank > 0,
            relative_change=norm / size if size else float(norm > 0),
            protected_change_ratio=inside,
            rounding_ratio=rounding,
            change_norm=norm,
        )
