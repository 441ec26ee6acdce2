"""A model on the way from its base to where a training took it: W + share (W' - W).

The last checkpoint overshoots (PEFT-Arena, arXiv:2605.28819): part of the way back some of what was known before
recovers. The weights are computed while they are read, one at a time; what is tried in memory is to the bit what is
written.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from components.training.loading import weight_files
from components.training.saving import names_in, round_named, write_folder


def weights_between(base: Path, adapted: Path, share: float, seed: int, device: str) -> Iterator[tuple[str, Tensor]]:
    """The weights by name, in the order of the base model's files and in the adapted model's number format.

    Args:
        base, adapted: model folders of the same architecture.
        share: of the way: 0 is the base, 1 the adapted model, each to the bit.
        seed: decides the noise of stochastic rounding.
        device: to compute on; the noise of a GPU is another than a CPU's.
    """
    with contextlib.ExitStack() as files:
        opened = [files.enter_context(safe_open(path, framework="pt")) for path in weight_files(adapted)]
        ends = {name: file for file in opened for name in file.keys()}  # noqa: SIM118 - not a dictionary
        for path in weight_files(base):
            with safe_open(path, framework="pt") as file:
                for name in names_in(file, second_names(base, adapted)):
                    start, end = (one.get_tensor(name).to(device) for one in (file, ends[name]))
                    yield name, round_named(torch.lerp(start.float(), end.float(), share), end.dtype, seed, name)


@torch.no_grad()
def move_between(model: nn.Module, base: Path, adapted: Path, share: float, seed: int) -> None:
    """Give a loaded model of this architecture the weights between, in place."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    device = next(model.parameters()).device.type
    for name, weight in weights_between(base, adapted, share, seed, device):
        if name in parameters:  # older files carry buffers that nobody holds
            parameters[name].copy_(weight)


def save_between(
    base: Path, adapted: Path, share: float, seed: int, device: str, final: Path, records: dict[str, Any]
) -> None:
    """Write the model between as a folder of its own, complete or not at all.

    Args:
        records: as `write_folder`.
    """
    weights = weights_between(base, adapted, share, seed, device)
    write_folder(base, second_names(base, adapted), weights, final, records)


def second_names(base: Path, adapted: Path) -> set[str]:
    """Names of the base model's weights that the adapted model's files do without: it is tied."""
    names: list[set[str]] = []
    for folder in (base, adapted):
        names.append(set())
        for path in weight_files(folder):
            with safe_open(path, framework="pt") as file:
                names[-1] |= set(file.keys())
    return names[0] - names[1]
