"""The loss of packed samples, without ever holding the logits of all their tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.data.packs import Pack
from components.models.shapes import LOGITS_AT_ONCE, MATRIX_UNIT
from components.shared.problems import problem


class PackLoss:
    """A causal language model's loss on packs.

    Logits are computed for the positions that carry a loss only, in pieces, each with its gradient at once: 8,192
    positions of a vocabulary of 49,155 would take 1.5 GiB in float32, several times.
    """

    def __init__(self, model: nn.Module) -> None:
        """Raises Problems when the model does anything else between its last layer and its logits than scaling and
        capping."""
        self.model = model
        self.backbone: nn.Module = model.base_model  # type: ignore[assignment]
        self.head: nn.Linear = model.get_output_embeddings()  # type: ignore[operator]
        self.divisor = float(getattr(model.config, "logits_scaling", 1.0))
        self.cap: float | None = getattr(model.config, "final_logit_softcapping", None)
        self._check()

    @property
    def vocabulary(self) -> int:
        return self.head.weight.shape[0]

    def __call__(self, pack: Pack, divisor: int) -> Tensor:
        """Sum of the negative log-likelihoods of the pack's targets, in nats, over `divisor`.

        Gradients are those of this very number: call its own `backward`, nothing else's that it went into.
        """
        return _HeadLoss.apply(self.hidden(pack)[pack.loss_positions], self.head.weight, self, pack.targets, divisor)

    def hidden(self, pack: Pack) -> Tensor:
        """The last layer's output for each token, [T, hidden size]."""
        output = self.backbone(
            input_ids=pack.input_ids, position_ids=pack.position_ids, use_cache=False, **pack.limits()
        )
        return output.last_hidden_state[0]

    def logits(self, hidden: Tensor) -> Tensor:
        """[n, hidden size] to [n, vocabulary]."""
        return self._shaped(F.linear(hidden, self.head.weight))

    def _shaped(self, logits: Tensor) -> Tensor:
        if self.divisor != 1:
            logits = logits / self.divisor
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap

    @torch.no_grad()
    def _check(self) -> None:
        plain = isinstance(self.head, nn.Linear) and self.head.bias is None
        if plain:
            device = self.head.weight.device
            tokens = torch.arange(4, device=device)[None]
            pack = Pack(
                input_ids=tokens,
                position_ids=tokens,
                loss_positions=tokens[0],
                targets=tokens[0],
                starts=torch.tensor([0, 4], dtype=torch.int32, device=device),
                longest=4,
            )
            ours = self.logits(self.hidden(pack))
            theirs = self.model(input_ids=tokens, position_ids=tokens, use_cache=False, **pack.limits()).logits[0]
            plain = torch.allclose(ours.float(), theirs.float(), rtol=1e-2, atol=1e-3)
        if not plain:
            raise problem(
                f"the logits of {type(self.model).__name__} are not those of a linear layer, scaled or capped",
                where="the model's class in transformers, or target_patterns that name its last layer",
                rule="the trainer supports Llama, Granite, Qwen2, Qwen3, Mistral, Phi-3, Gemma and models like them",
                remedy="use a model of one of these families, or backend='mini-trainer'",
            )


class _HeadLoss(torch.autograd.Function):
    """Loss and gradients of the last layer together, piece by piece: logits are computed once and not kept."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, loss: PackLoss, targets: Tensor, divisor: int) -> Tensor:  # type: ignore[no-untyped-def]
        vocabulary = weight.shape[0]
        odd = -vocabulary % MATRIX_UNIT if weight.dtype == torch.bfloat16 else 0
        padded = F.pad(weight.detach(), (0, 0, 0, odd)) if odd else weight.detach()
        d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(padded) if ctx.needs_input_grad[1] else None
        total = hidden.new_zeros((), dtype=torch.float32)
        size = max(1, LOGITS_AT_ONCE // vocabulary)
        for rows, d_rows, wanted in zip(hidden.split(size), d_hidden.split(size), targets.split(size), strict=True):
            raw = (rows @ padded.T)[:, :vocabulary].float()
            with torch.enable_grad():
                raw.requires_grad_()
                piece = F.cross_entropy(loss._shaped(raw), wanted, reduction="sum") / divisor
            (d_raw,) = torch.autograd.grad(piece, raw)
            total += piece.detach()
            d_logits = F.pad(d_raw.to(rows.dtype), (0, odd)) if odd else d_raw.to(rows.dtype)
            torch.mm(d_logits, padded, out=d_rows)
            if d_weight is not None:
                d_weight.addmm_(d_logits.T, rows)
        ctx.save_for_backward(d_hidden, None if d_weight is None else d_weight[:vocabulary])
        return total

    @staticmethod
    def backward(ctx, scale: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:  # type: ignore[no-untyped-def]
        assert scale.is_cuda or float(scale) == 1, (
            "the loss is scaled by its divisor"
        )  # a GPU would have to be waited for
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden, d_weight, None, None, None
