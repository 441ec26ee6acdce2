"""Did OSFT keep its promise? Measured from the two models' files alone.

A matrix' change D = W_adapted - W_base was to stay out of the k strongest directions of W_base. What of it lies
elsewhere than in the free directions, D - (I - U U') D (I - V V') with U [out, k], V [in, k] those directions, is the
protected part. Its share is ||protected part|| / ||D||. Rounding to the files' number format is part of what is found.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from components import progress
from components.storage import read_json
from components.train_osft.factors import decompose, frozen_rank


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatrixAudit:
    """One tensor of the model."""

    name: str
    protected: bool
    """OSFT protects directions of it; embeddings and norms are trained freely."""
    relative_change: float
    """||D|| / ||W_base||"""
    protected_change_ratio: float
    """Share of the change's norm in the protected directions; 0 for a tensor that has none or did not change."""
    change_norm: float


class Weights:
    """The tensors of a model folder by name, read one at a time."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                self.files |= dict.fromkeys(file.keys(), path)

    def names(self) -> list[str]:
        return sorted(self.files)

    def read(self, name: str) -> Tensor:
        with safe_open(self.files[name], framework="pt") as file:
            return file.get_tensor(name).float()


def audit(base: Path, adapted: Path, unfreeze_rank_ratio: float, patterns: tuple[str, ...]) -> list[MatrixAudit]:
    """Audit every tensor.

    Args:
        base, adapted: model folders of the same architecture.
        unfreeze_rank_ratio: the training's.
        patterns: parts of the names of the matrices that were decomposed.
    """
    before, after = Weights(base), Weights(adapted)
    assert before.names() == after.names(), "base and adapted model have different tensors"
    names = before.names()
    return list(progress.track(_audit(before, after, unfreeze_rank_ratio, patterns), len(names), "auditing tensors"))


def overall(audits: list[MatrixAudit]) -> float:
    """Share of the whole change of all protected matrices that lies in protected directions."""
    inside = sum((a.protected_change_ratio * a.change_norm) ** 2 for a in audits if a.protected)
    whole = sum(a.change_norm**2 for a in audits if a.protected)
    return float((inside / whole) ** 0.5) if whole else 0.0


def default_patterns(folder: Path) -> tuple[str, ...]:
    """The matrices that mini_trainer decomposes in a model of this architecture."""
    from mini_trainer.osft_utils import get_model_patterns

    return tuple(get_model_patterns(read_json(folder / "config.json")["architectures"][0]))


def _audit(before: Weights, after: Weights, ratio: float, patterns: tuple[str, ...]) -> Iterator[MatrixAudit]:
    for name in before.names():
        base = before.read(name)
        change = after.read(name) - base
        norm = float(change.norm())
        is_target = name.endswith(".weight") and base.ndim == 2 and any(pattern in name for pattern in patterns)
        rank = frozen_rank(tuple(base.shape), ratio) if is_target else 0
        inside = 0.0
        if rank > 0 and norm > 0:
            U, _, Vh = decompose(base)
            U, Vh = U[:, :rank], Vh[:rank]
            free = change - U @ (U.T @ change)
            free -= (free @ Vh.T) @ Vh
            inside = float((change - free).norm()) / norm
        yield MatrixAudit(
            name=name,
            protected=rank > 0,
            relative_change=norm / float(base.norm()),
            protected_change_ratio=inside,
            change_norm=norm,
        )
