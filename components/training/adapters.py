"""LoRA (Hu et al. 2021, arXiv:2106.09685) by PEFT's adapters: W + scaling B A, with W frozen.

PEFT decides where the adapters go, how they begin and how they are scaled. Without dropout they compute by one function
of ours, which keeps less for the backward pass and launches half the kernels.

Protected adapters (OPLoRA, arXiv:2510.13003) train W + scaling (I - U U') B A (I - V V'), with W's k strongest
singular directions U and V. Here A and B themselves are kept in the free directions: they begin there, and each
gradient and each step of AdamW is projected. That is the same training, without projections in the forward pass.
"""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.models.shapes import is_target, protection_ranks
from components.run.training_options import TrainingOptions

ADAPTER = "default"  # PEFT's name for the only one
A, B = (f"lora_{letter}.{ADAPTER}.weight" for letter in "AB")


class Protection(nn.Module):
    """The strongest directions of one matrix, or what is left of them to be free, and how to keep out of them."""

    def __init__(self, factors: tuple[Tensor, Tensor, Tensor], frozen: int, dtype: torch.dtype) -> None:
        """
        Args:
            factors: U [out, n], S [n], Vh [n, in] of the weight, float32.
            frozen: number k of protected directions.
            dtype: to keep them in.
        """
        super().__init__()
        U, _, Vh = factors
        ranks = protection_ranks((U.shape[0], Vh.shape[1]), frozen)
        self.are_free = tuple(rank != frozen for rank in ranks)
        bases = [rows[frozen:] if free else rows[:frozen] for rows, free in zip((U.T, Vh), self.are_free, strict=True)]
        self.register_buffer("output", bases[0].to(dtype).contiguous().clone())
        self.register_buffer("input", bases[1].to(dtype).contiguous().clone())

    @torch.no_grad()
    def project(self, a: Tensor, b: Tensor) -> None:
        """Take out of an adapter's factors, or of their changes, what lies in protected directions, in place.

        Args:
            a: [r, in]
            b: [out, r]
        """
        for rows, basis, is_free in zip((b.T, a), (self.output, self.input), self.are_free, strict=True):
            assert isinstance(basis, Tensor)
            inside = (rows.to(basis.dtype) @ basis.T) @ basis
            if is_free:
                rows.copy_(inside)
            else:
                rows.sub_(inside)


def add_adapters(
    model: nn.Module,
    patterns: tuple[str, ...],
    options: TrainingOptions,
    protections: Mapping[str, Protection] = MappingProxyType({}),
) -> None:
    """Freeze a model and give the matrices whose names hold a pattern an adapter each, in place.

    Args:
        protections: of matrices by name, what the optimizer keeps their adapters out of, from their start on.
    """
    from peft import LoraConfig, inject_adapter_in_model

    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and is_target(f"{name}.weight", patterns)
    ]
    config = LoraConfig(
        r=options.lora_r,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules=names,
        use_rslora=options.use_rslora,
    )
    torch.manual_seed(options.seed)  # how they begin
    inject_adapter_in_model(config, model, ADAPTER)
    for name, protection in protections.items():
        model.get_submodule(name).protection = protection
    if not options.lora_dropout:
        for layer in adapted_layers(model).values():
            layer.forward = functools.partial(_forward, layer)


def protections_of(model: nn.Module) -> dict[str, Protection]:
    """What adapters are kept out of, by the layer's name."""
    return {name: layer.protection for name, layer in adapted_layers(model).items() if hasattr(layer, "protection")}


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """PEFT's layers by name; known by what they hold, for importing PEFT takes seconds that others can do without."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def _forward(layer: Any, x: Tensor) -> Tensor:
    a, b = (factors[ADAPTER].weight for factors in (layer.lora_A, layer.lora_B))
    y: Tensor = _Adapted.apply(x, a, b, layer.base_layer, layer.scaling[ADAPTER])
    return y


class _Adapted(torch.autograd.Function):
    """y = x W' + bias + scaling x A' B'; W and its bias have no gradient."""

    @staticmethod
    def forward(ctx, x: Tensor, a: Tensor, b: Tensor, base: nn.Linear, scaling: float) -> Tensor:  # type: ignore[no-untyped-def]
        rows = x.reshape(-1, x.shape[-1])
        inside = rows @ a.T
        ctx.save_for_backward(rows, inside, a, b)
        ctx.base, ctx.scaling = base, scaling
        y = F.linear(rows, base.weight, base.bias)
        y.addmm_(inside, b.T, alpha=scaling)
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # type: ignore[no-untyped-def]
        x, inside, a, b = ctx.saved_tensors
        rows = dy.reshape(-1, dy.shape[-1])
        d_inside = (rows @ b).mul_(ctx.scaling)
        dx = rows @ ctx.base.weight
        dx.addmm_(d_inside, a)
        db = (rows.T @ inside).mul_(ctx.scaling)
        return dx.view(*dy.shape[:-1], dx.shape[-1]), d_inside.T @ x, db, None, None
