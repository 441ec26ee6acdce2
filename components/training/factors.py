"""Orthogonal Subspace Fine-Tuning of one matrix (Nayak et al. 2025, arXiv:2504.07097).

A weight W [out, in] is split by its singular value decomposition into the k strongest directions, which stay, and the
r others, which are trained as three factors:

    W = U_high diag(S_high) V_high + U_low diag(S_low) V_low

What the model knew before is protected when the change stays orthogonal to the strong directions: U_high' U_low = 0 and
V_low V_high' = 0. Gradients are projected before AdamW's moments take them in, and AdamW's direction is projected
again, because AdamW scales each entry for itself and thereby turns it. (mini_trainer.osft_utils projects the factors
after the step, which is the same, as they were orthogonal before it; but it would project their rounding, too.)

All factors lie with a singular direction in each row: U is stored as U' [n, out].
"""

import torch
from torch import Tensor, nn

from components.models.shapes import frozen_rank, is_target
from components.training.weights import trained_weight


def decompose(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Singular value decomposition U [out, n], S [n] in descending order, Vh [n, in] in float32, n = min(out, in).

    On CUDA from the eigenvectors Q of the smaller Gram matrix: W = (W Q) Q' holds as well as Q is orthogonal, and is
    faster than the driver gesvda, for square matrices by two thirds (torch's default takes 11 times as long at a
    relative error of 1e-3). The weakest
    of the other side's vectors come out less orthogonal that way.
    """
    weight = weight.detach().float()
    if not weight.is_cuda:
        return torch.linalg.svd(weight, full_matrices=False)
    if weight.shape[0] < weight.shape[1]:
        V, S, Uh = decompose(weight.T)
        return Uh.T, S, V.T
    Q = torch.linalg.eigh(weight.T @ weight).eigenvectors.flip(1)
    U = weight @ Q
    S = torch.linalg.vector_norm(U, dim=0)
    return U.div_(S.clamp_min(torch.finfo(torch.float32).tiny)), S, Q.T


class OSFTLinear(nn.Module):
    """A linear layer whose weight is frozen in its strongest directions and trained in the others."""

    def __init__(
        self,
        name: str,
        factors: tuple[Tensor, Tensor, Tensor],
        frozen: int,
        dtype: torch.dtype,
    ) -> None:
        """
        Args:
            name: the layer's name in its model.
            factors: U [out, n], S [n], Vh [n, in] of its weight, float32.
            frozen: number k of leading singular directions that stay as they are.
            dtype: of what it computes; the trained factors' form follows from it.
        """
        super().__init__()
        self.U_high: Tensor
        self.V_high: Tensor
        self.inverse_squares: Tensor
        U, S, Vh = factors
        self.shape = (U.shape[0], Vh.shape[1])
        strengths = S[:frozen].clamp_min(S[0] * 1e-12)  # zero singular values in a frozen part divide nothing
        U_high, V_high = _copy(U[:, :frozen].T), _copy(Vh[:frozen])
        U_low, V_low = _copy(U[:, frozen:].T), _copy(Vh[frozen:])
        # One side's vectors span the whole space and are exactly orthogonal, see `decompose`; they suffice to take the
        # trained part out of W again. The other side's weak ones are made so.
        if self.shape[0] >= self.shape[1]:
            self.start = V_low.clone()
            U_low -= (U_low @ U_high.T) @ U_high
        else:
            self.start = U_low.clone()
            V_low -= (V_low @ V_high.T) @ V_high
        self.register_buffer("U_high", U_high.to(dtype))
        self.register_buffer("V_high", V_high.mul_(strengths[:, None]).to(dtype))  # holds S_high as well
        self.register_buffer("inverse_squares", strengths.pow(-2).to(dtype))
        self.low = trained_weight(f"{name}.low", torch.cat([U_low, V_low], dim=1), dtype)
        """U_low' and V_low side by side, [r, out + in]."""
        self.S_low = S[frozen:].clone()
        """[r], float32."""
        self.S_grad = torch.zeros_like(self.S_low)
        self.bias: nn.Parameter | None = None
        """Is trained as it is."""

    def forward(self, x: Tensor) -> Tensor:
        y = _Factored.apply(x, self)
        return y if self.bias is None else y + self.bias

    def split(self, low: Tensor) -> tuple[Tensor, Tensor]:
        """What belongs to U_low' [r, out] and to V_low [r, in] of something shaped like `low`."""
        return low[:, : self.shape[0]], low[:, self.shape[0] :]

    def finish_gradients(self) -> None:
        """After the last backward pass of a step: the gradients of all three factors."""
        if self.low.grad is not None:
            self.low.scale_gradients(self.S_low, self.shape[0], self.S_grad)

    def project(self, change: Tensor) -> None:
        """Take out of a change of the factors what points into the protected directions, in place.

        Args:
            change: of `low`.
        """
        u, v = self.split(change)
        spanning = None
        at_hand = (self.start.device, self.start.dtype) == (change.device, change.dtype)
        if at_hand and len(self.start) < len(self.U_high):
            # On the side that W's directions span, those that are free are the complement, and here fewer.
            spanning = v if self.shape[0] >= self.shape[1] else u
            spanning.copy_((spanning @ self.start.T) @ self.start)
        if spanning is not u:
            u.addmm_(u @ self.U_high.T, self.U_high, alpha=-1)
        if spanning is not v:
            v.addmm_((v @ self.V_high.T).mul_(self.inverse_squares), self.V_high, alpha=-1)

    def frozen_weight(self, base: Tensor) -> Tensor:
        """What stays of the base model's weight [out, in], float32 on this layer's device: W less its trained part.

        Taken from W itself, not from the frozen factors: their rounding would change the model in just the directions
        that are protected.
        """
        start = self.start.to(self.U_high.device)
        base = base.to(start)
        low = (base @ start.T) @ start if self.shape[0] >= self.shape[1] else start.T @ (start @ base)
        return base - low

    def trained_part(self) -> Tensor:
        """The trained factors' product [out, in] in float32."""
        U, V = self.split(self.low.values(torch.float32))
        return (U.T * self.S_low) @ V


def _copy(rows: Tensor) -> Tensor:
    return rows.clone(memory_format=torch.contiguous_format)


class _Factored(torch.autograd.Function):
    """y = x V_high' U_high' + x (S_low V_low)' U_low', with the trained factors' gradients kept in the layer.

    `low.grad` is that of U_low and of S_low V_low; `finish_gradients` makes those of S_low and V_low of it.
    """

    @staticmethod
    def forward(ctx, x: Tensor, layer: OSFTLinear) -> Tensor:  # type: ignore[no-untyped-def]
        U_low, V_scaled = layer.low.scaled_values(x.dtype, layer.S_low, layer.shape[0])
        rows = x.reshape(-1, x.shape[-1])
        inside = rows @ V_scaled.T
        ctx.save_for_backward(rows, inside, U_low, V_scaled)
        ctx.layer = layer
        y = (rows @ layer.V_high.T) @ layer.U_high
        y.addmm_(inside, U_low)
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        layer: OSFTLinear = ctx.layer
        x, inside, U_low, V_scaled = ctx.saved_tensors
        rows = dy.reshape(-1, dy.shape[-1])
        d_inside = rows @ U_low.T
        if layer.low.grad is None:
            layer.low.grad = torch.empty(layer.low.shape, dtype=x.dtype, device=x.device)
            du, dv = layer.split(layer.low.grad)
            torch.mm(inside.T, rows, out=du)
            torch.mm(d_inside.T, x, out=dv)
        else:
            du, dv = layer.split(layer.low.grad)
            du.addmm_(inside.T, rows)
            dv.addmm_(d_inside.T, x)
        dx = (rows @ layer.U_high.T) @ layer.V_high
        dx.addmm_(d_inside, V_scaled)
        return dx.view(*dy.shape[:-1], dx.shape[-1]), None


def target_names(model: nn.Module, patterns: tuple[str, ...] | list[str], unfreeze_rank_ratio: float) -> list[str]:
    """The linear layers to decompose, in the model's order.

    Those in the model's layers whose weight's name holds one of the patterns; one of which nothing would stay frozen is
    no target.
    """
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and is_target(f"{name}.weight", patterns)
        and frozen_rank(tuple(module.weight.shape), unfreeze_rank_ratio) > 0
    ]


def factorize(name: str, weight: Tensor, unfreeze_rank_ratio: float, dtype: torch.dtype) -> OSFTLinear:
    """A factored layer, still without a bias.

    Args:
        name: of the layer in its model.
        weight: [out, in], on the device to train on.
        dtype: to compute in.
    """
    frozen = frozen_rank(tuple(weight.shape), unfreeze_rank_ratio)
    return OSFTLinear(name, decompose(weight), frozen, dtype)


def factored_layers(model: nn.Module) -> dict[str, OSFTLinear]:
    """The factored layers by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, OSFTLinear)}
