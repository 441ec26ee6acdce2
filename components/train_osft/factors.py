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


class Projection(nn.Module):
    """Onto the complement of a matrix' leading singular vectors.

    Where the singular vectors span the whole space, those that are free span the complement: Q Q' x is I x - B B' x,
    and takes the fewer numbers of the two when less is free than frozen.
    """

    def __init__(self, vectors: Tensor, frozen: int) -> None:
        """
        Args:
            vectors: orthonormal columns [size, n].
            frozen: how many leading ones of them to project away.
        """
        super().__init__()
        self.basis: Tensor
        size, n = vectors.shape
        self.is_complement = size == n and n - frozen < frozen
        chosen = vectors[:, frozen:] if self.is_complement else vectors[:, :frozen]
        self.register_buffer("basis", chosen.clone(memory_format=torch.contiguous_format))

    def apply_to(self, x: Tensor) -> None:
        """Project the columns of x [size, r], in place."""
        inside = self.basis @ (self.basis.T @ x)
        if self.is_complement:
            x.copy_(inside)
        else:
            x.sub_(inside)


def held_entries(shape: tuple[int, int], frozen: int) -> int:
    """Numbers that a factored layer holds besides the trained ones: W_high and the bases of both projections."""
    n = min(shape)
    bases = (size * (n - frozen if size == n and n - frozen < frozen else frozen) for size in shape)
    return shape[0] * shape[1] + sum(bases)


class OSFTLinear(nn.Module):
    """A linear layer whose weight is frozen in its strongest directions and trained in the others.

    Computes what `nn.Linear` does; `weight()` gives the [out, in] matrix that it stands for.
    """

    def __init__(self, linear: nn.Linear, frozen: int, U: Tensor, S: Tensor, Vh: Tensor) -> None:
        """
        Args:
            linear: the layer to replace; its bias is trained as it is.
            frozen: number k of leading singular directions that stay as they are.
            U, S, Vh: the decomposition of its weight, [out, n], [n] in descending order, [n, in].
        """
        super().__init__()
        self.W_high: Tensor
        # What the trained part leaves of the weight, not the product of the frozen factors: that would add the
        # decomposition's rounding to the model's change, in just the directions that are protected.
        low = (U[:, frozen:] * S[frozen:]) @ Vh[frozen:]
        self.register_buffer("W_high", linear.weight.detach().float() - low)
        self.u_side = Projection(U, frozen)
        self.v_side = Projection(Vh.T, frozen)
        self.U_low = nn.Parameter(U[:, frozen:].clone(memory_format=torch.contiguous_format))
        self.S_low = nn.Parameter(S[frozen:].clone())
        self.V_low = nn.Parameter(Vh[frozen:].clone(memory_format=torch.contiguous_format))
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.W_high, self.bias) + F.linear(F.linear(x, self.V_low) * self.S_low, self.U_low)

    def weight(self) -> Tensor:
        """The matrix that the factors stand for, [out, in]."""
        return self.W_high + (self.U_low * self.S_low) @ self.V_low

    @torch.no_grad()
    def project_gradients(self) -> None:
        """Take out of the gradients what points into the protected directions. In place."""
        if self.U_low.grad is not None:
            self.u_side.apply_to(self.U_low.grad)
        if self.V_low.grad is not None:
            self.v_side.apply_to(self.V_low.grad.T)

    @torch.no_grad()
    def project_factors(self) -> None:
        """Take out of the trained factors what points into the protected directions. In place."""
        self.u_side.apply_to(self.U_low)
        self.v_side.apply_to(self.V_low.T)


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
            model.set_submodule(name, OSFTLinear(linear, frozen, *decompose(linear.weight)))
        yield name


def factored_layers(model: nn.Module) -> dict[str, OSFTLinear]:
    """The factored layers by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, OSFTLinear)}


def plain_state_dict(model: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """The state dict of the model as it was before `factorize`, with the trained weights, in `dtype`."""
    factors = factored_layers(model)
    inside = tuple(f"{name}." for name in factors)
    state = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not name.startswith(inside) or name.endswith(".bias")
    }
    with torch.no_grad():
        state |= {f"{name}.weight": layer.weight() for name, layer in factors.items()}
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
