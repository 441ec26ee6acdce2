"""A model on the way from its base to where a training took it: W + share (W' - W).

The last checkpoint overshoots (PEFT-Arena, arXiv:2605.28819): part of the way back some of what was known before
recovers. The weights are computed while they are read, one at a time; what is tried in memory is to the bit what is
written.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from components.training.loading import open_weights
from components.training.saving import round_named, write_folder


def weights_between(base: Path, adapted: Path, share: float, seed: int, device: str) -> Iterator[tuple[str, Tensor]]:
    """The weights by name, in the order of the base model's files and in the adapted model's number format.

    Args:
        base, adapted: model folders of the same architecture.
        share: of the way: 0 is the base, 1 the adapted model, each to the bit.
        seed: decides the noise of stochastic rounding.
        device: to compute on; the noise of a GPU is another than a CPU's.
    """
    with open_weights(base) as starts, open_weights(adapted) as ends:
        for name, file in starts.items():
            start, end = (one.get_tensor(name).to(device) for one in (file, ends[name]))
            yield name, round_named(torch.lerp(start.float(), end.float(), share), end.dtype, seed, name)


@torch.no_grad()
def move_between(model: nn.Module, base: Path, adapted: Path, share: float, seed: int) -> None:
    """Give a loaded model of this architecture the weights between, in place."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    device = next(model.parameters()).device.type
    for name, weight in weights_between(base, adapted, share, seed, device):
        parameters[name].copy_(weight)


def save_between(
    base: Path, adapted: Path, share: float, seed: int, device: str, final: Path, records: dict[str, Any]
) -> None:
    """Write the model between as a folder of its own, complete or not at all.

    Args:
        records: as `write_folder`.
    """
    write_folder(base, weights_between(base, adapted, share, seed, device), final, records)
