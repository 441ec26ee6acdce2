"""LoRA (Hu et al. 2021, arXiv:2106.09685) by PEFT's adapters: W + scaling B A, with W frozen.

PEFT decides where the adapters go, how they begin and how they are scaled. Without dropout they compute by one function
of ours, which keeps less for the backward pass and launches half the kernels.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.models.shapes import is_target
from components.run.training_options import TrainingOptions

ADAPTER = "default"  # PEFT's name for the only one
A, B = (f"lora_{letter}.{ADAPTER}.weight" for letter in "AB")


def add_adapters(model: nn.Module, patterns: tuple[str, ...], options: TrainingOptions) -> None:
    """Freeze a model and give the matrices whose names hold a pattern an adapter each, in place."""
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
    if not options.lora_dropout:
        for layer in adapted_layers(model).values():
            layer.forward = functools.partial(_forward, layer)


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
