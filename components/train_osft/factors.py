"""Orthogonal Subspace Fine-Tuning of one matrix (Nayak et al. 2025, arXiv:2504.07097).

A weight W [out, in] is split by its singular value decomposition into the k strongest directions, which stay, and the
r others, which are trained as three factors:

    W = W_high + U_low diag(S_low) V_low        U_low [out, r], S_low [r], V_low [r, in]

What was learnt before is protected when the change stays orthogonal to the strong directions: U_high' U_low = 0 and
V_low V_high' = 0. Gradients are projected before the optimizer's step, which keeps its moments clean, and factors after
it, because Adam scales each entry for itself and thereby turns the step (as in mini_trainer.osft_utils).
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class OSFTLinear(nn.Module):
    """A linear layer whose weight is frozen in its strongest directions and trained in the others.

    Computes what `nn.Linear` does; `weight()` gives the [out, in] matrix that it stands for.
    """

    def __init__(self, frozen: int, U: Tensor, S: Tensor, Vh: Tensor, bias: nn.Parameter | None) -> None:
        """
        Args:
            frozen: number k of leading singular directions that stay as they are.
            U, S, Vh: the decomposition, [out, n], [n] in descending order, [n, in].
            bias: the layer's bias [out], trained as it is; or None.
        """
        super().__init__()
        self.U_high: Tensor
        self.V_high: Tensor
        self.W_high: Tensor
        self.register_buffer("U_high", U[:, :frozen].contiguous())
        self.register_buffer("V_high", Vh[:frozen].contiguous())
        self.register_buffer("W_high", (U[:, :frozen] * S[:frozen]) @ Vh[:frozen])
        self.U_low = nn.Parameter(U[:, frozen:].clone(memory_format=torch.contiguous_format))
        self.S_low = nn.Parameter(S[frozen:].clone())
        self.V_low = nn.Parameter(Vh[frozen:].clone(memory_format=torch.contiguous_format))
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.W_high, self.bias) + F.linear(F.linear(x, self.V_low) * self.S_low, self.U_low)

    def weight(self) -> Tensor:
        """The matrix that the factors stand for, [out, in]."""
        return self.W_high + (self.U_low * self.S_low) @ self.V_low

    @torch.no_grad()
    def project_gradients(self) -> None:
        """Take out of the gradients what points into the protected directions. In place."""
        if self.U_low.grad is not None:
            self._project(self.U_low.grad, None)
        if self.V_low.grad is not None:
            self._project(None, self.V_low.grad)

    @torch.no_grad()
    def project_factors(self) -> None:
        """Take out of the trained factors what points into the protected directions. In place."""
        self._project(self.U_low, self.V_low)

    def _project(self, u: Tensor | None, v: Tensor | None) -> None:
        if u is not None:
            u.addmm_(self.U_high, self.U_high.T @ u, alpha=-1)
        if v is not None:
            v.addmm_(v @ self.V_high.T, self.V_high, alpha=-1)


def frozen_rank(shape: torch.Size | tuple[int, int], unfreeze_rank_ratio: float) -> int:
    """How many of a matrix' singular directions stay frozen; 0 means that the matrix is trained as it is.

    Rounds as mini_trainer's `auto_generate_target_osft_config` does, which is told the frozen share.
    """
    full_rank = min(shape)
    return min(int(full_rank * (1.0 - unfreeze_rank_ratio)), full_rank - 1)


def decompose(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Singular value decomposition U [out, n], S [n], Vh [n, in] in float32, n = min(out, in).

    On CUDA by the driver gesvda: the default's relative error is 1e-3, this one's 1e-6, in a quarter of the time.
    """
    driver = "gesvda" if weight.is_cuda else None
    return torch.linalg.svd(weight.detach().float(), full_matrices=False, driver=driver)


def target_names(model: nn.Module, patterns: tuple[str, ...] | list[str]) -> list[str]:
    """The linear layers to decompose: those whose weight's name holds one of the patterns, in the model's order."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and any(pattern in f"{name}.weight" for pattern in patterns)
    ]


def factorize(model: nn.Module, names: list[str], unfreeze_rank_ratio: float) -> Iterator[str]:
    """Replace the named linear layers by factored ones, one after the other; yields each name when it is done.

    A layer of which nothing would stay frozen keeps its plain weight.
    """
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        frozen = frozen_rank(tuple(linear.weight.shape), unfreeze_rank_ratio)  # type: ignore[arg-type]
        if frozen > 0:
            model.set_submodule(name, OSFTLinear(frozen, *decompose(linear.weight), bias=linear.bias))
        yield name


def factored_layers(model: nn.Module) -> dict[str, OSFTLinear]:
    """The factored layers by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, OSFTLinear)}


def plain_state_dict(model: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """The state dict of the model as it was before `factorize`, with the trained weights, in `dtype`."""
    factors = factored_layers(model)
    state = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.rpartition(".")[0] not in factors or name.endswith(".bias")
    }
    with torch.no_grad():
        state |= {f"{name}.weight": layer.weight() for name, layer in factors.items()}
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
