"""RMS norms by torch's fused operator, where transformers' own launch eight kernels each."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fuse_norms(model: nn.Module) -> int:
    """Let each RMS norm that computes weight * x / rms(x) compute it by torch's fused operator.

    Norms that compute something else (Gemma's 1 + weight) stay: whether they do is tried with numbers.

    Returns:
        how many compute by it now.
    """
    fused = 0
    for module in model.modules():
        eps = getattr(module, "variance_epsilon", None)
        if eps is None or [name for name, _ in module.named_parameters()] != ["weight"] or not _same(module, eps):
            continue
        module.forward = functools.partial(_rms_norm, module, eps)
        fused += 1
    return fused


def _rms_norm(module: nn.Module, eps: float, x: Tensor) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return F.rms_norm(x, tuple(weight.shape), weight, eps)


@torch.no_grad()
def _same(module: nn.Module, eps: float) -> bool:
    weight = module.weight
    assert isinstance(weight, Tensor)
    x = torch.linspace(-1, 2, len(weight), dtype=weight.dtype, device=weight.device)[None]
    return torch.allclose(module(x).float(), _rms_norm(module, eps, x).float(), rtol=2e-2, atol=1e-3)
