"""Micro-batches of whole samples.

Samples are packed one after the other into a single sequence, so that no padding is computed; attention does not cross
samples, because transformers derives a block-diagonal mask from position ids that start again at 0.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from components.data.samples import IGNORED, Sample

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Pack:
    """Whole samples in one sequence of T tokens, of which n carry a loss."""

    input_ids: "Tensor"
    """[1, T]"""
    position_ids: "Tensor"
    """[1, T], from 0 in each sample."""
    loss_positions: "Tensor"
    """[n]: the positions whose next token carries a loss."""
    targets: "Tensor"
    """[n]: those tokens."""
    starts: "Tensor"
    """[samples + 1]: where each sample begins, and the end of the last; int32."""
    longest: int
    """Tokens of the longest sample."""

    def limits(self) -> dict[str, Any]:
        """Where samples begin and end, under the names that transformers passes on to attention functions."""
        return {
            "cu_seq_lens_q": self.starts,
            "cu_seq_lens_k": self.starts,
            "max_length_q": self.longest,
            "max_length_k": self.longest,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packing:
    """How full the packs of a training are, over all its epochs. Their tokens are the samples' own: none is padding."""

    packs: int
    tokens: int
    """Computed in all packs together."""
    max_tokens: int
    """The most that a pack may hold."""
    padding_avoided: int
    """Tokens that it would take to bring each sample of a pack to the length of the pack's longest."""

    @property
    def fill(self) -> float:
        """Share of the tokens that the packs could hold."""
        return self.tokens / (self.packs * self.max_tokens)


def packs(samples: list[Sample], max_tokens: int, device: "torch.device | str" = "cpu") -> Iterator[Pack]:
    """The samples of one optimizer step in their order, packed as they come into at most `max_tokens` tokens each."""
    for group in _groups(samples, max_tokens):
        yield _pack(group, device)


def packing(batches: Iterable[list[Sample]], max_tokens: int) -> Packing:
    """How full the packs are of a training whose optimizer steps learn from these samples."""
    lengths = [[len(sample.tokens) for sample in group] for batch in batches for group in _groups(batch, max_tokens)]
    tokens = sum(map(sum, lengths))
    return Packing(
        packs=len(lengths),
        tokens=tokens,
        max_tokens=max_tokens,
        padding_avoided=sum(max(group) * len(group) for group in lengths) - tokens,
    )


def _groups(samples: list[Sample], max_tokens: int) -> Iterator[list[Sample]]:
    group: list[Sample] = []
    for sample in samples:
        if group and sum(len(member.tokens) for member in group) + len(sample.tokens) > max_tokens:
            yield group
            group = []
        group.append(sample)
    if group:
        yield group


def _pack(samples: list[Sample], device: "torch.device | str") -> Pack:
    import torch  # plan_training counts tokens where there is none

    tokens = [token for sample in samples for token in sample.tokens]
    positions = [position for sample in samples for position in range(len(sample.tokens))]
    # The token at p is predicted at p - 1; the first of a sample is predicted by nothing.
    labels = [label for sample in samples for label in [IGNORED, *sample.labels[1:]]]
    loss_positions = [place - 1 for place, label in enumerate(labels) if label != IGNORED]
    targets = [label for label in labels if label != IGNORED]
    lengths = [len(sample.tokens) for sample in samples]

    def tensor(values: list[Any], dtype: torch.dtype = torch.long) -> "Tensor":
        made = torch.tensor(values, dtype=dtype)
        if torch.device(device).type == "cuda":
            made = made.pin_memory()  # or copying would wait for all that the GPU has to do
        return made.to(device, non_blocking=True)

    return Pack(
        input_ids=tensor([tokens]),
        position_ids=tensor([positions]),
        loss_positions=tensor(loss_positions),
        targets=tensor(targets),
        starts=tensor([0, *itertools.accumulate(lengths)], torch.int32),
        longest=max(lengths),
    )
