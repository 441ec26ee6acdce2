"""One optimizer step: clip, project, AdamW's direction, project again, move; no gradient is left after it.

Projections are OSFT's and those of protected adapters; the other methods have the rest.
"""

import math

import torch
from torch import Tensor, nn

from components.models.shapes import MIN_COMPACT
from components.run.training_options import TrainingOptions
from components.training.adapters import A, B, protections_of
from components.training.factors import factored_layers
from components.training.weights import Float32Weight, TrainedWeight, Update, trained_weight

MAX_GRADIENT_NORM = 1.0  # fixed in mini_trainer too


class Optimizer:
    """AdamW for a loaded model.

    Each factored layer holds its trained factors itself, as `low`. Every other weight that is trained is kept here; the
    model's own parameters are copies to compute with, unless the training computes in float32. Small ones (norms,
    biases, singular values) and all adapters lie in one float32 vector, which an optimizer step handles at once.
    """

    def __init__(self, model: nn.Module, options: TrainingOptions, dtype: torch.dtype) -> None:
        self.options, self.dtype = options, dtype
        self.layers = factored_layers(model)
        self.weights: dict[str, TrainedWeight] = {layer.low.name: layer.low for layer in self.layers.values()}
        self.large: dict[str, nn.Parameter] = {}
        self.small_parameters: dict[str, nn.Parameter] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                is_large = parameter.numel() >= MIN_COMPACT and not name.endswith((A, B))
                (self.large if is_large else self.small_parameters)[name] = parameter
        for name, parameter in self.large.items():
            self.weights[name] = trained_weight(name, parameter.detach().float(), dtype)

        values = {f"{name}.S_low": layer.S_low for name, layer in self.layers.items()}
        values |= {name: parameter.detach().float() for name, parameter in self.small_parameters.items()}
        self.vector = Float32Weight("small", torch.cat([value.reshape(-1) for value in values.values()]))
        self.weights["small"] = self.vector
        self.vector.grad = torch.zeros_like(self.vector.value)
        self.shapes = {name: value.shape for name, value in values.items()}
        self.protections = protections_of(model)
        self._protect(self.vector.value)
        self.computed = self.vector.values(dtype)  # the same memory in float32
        self.small, gradients, computed = map(self._views, (self.vector.value, self.vector.grad, self.computed))
        for name, layer in self.layers.items():
            layer.S_low, layer.S_grad = self.small[f"{name}.S_low"], gradients[f"{name}.S_low"]
        for name, parameter in self.small_parameters.items():
            parameter.data = computed[name]

    def _views(self, vector: Tensor) -> dict[str, Tensor]:
        """Each small weight's part of something shaped like the vector."""
        parts = vector.split([shape.numel() for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def value(self, name: str) -> Tensor | None:
        """A trained weight outside the factored matrices, in float32; None when there is none of that name."""
        if name in self.small:
            return self.small[name]
        return self.weights[name].values(torch.float32) if name in self.large else None

    @torch.no_grad()
    def finish_gradients(self) -> Tensor:
        """After the last backward pass of a step.

        Returns:
            the norm of all gradients together, float32.
        """
        assert self.vector.grad is not None
        for layer in self.layers.values():
            layer.finish_gradients()
        small = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for parameter in self.small_parameters.values()
        ]
        if small:  # they stand last in the vector
            gathered = torch.cat([gradient.reshape(-1) for gradient in small])
            self.vector.grad[-len(gathered) :].add_(gathered)
        self._protect(self.vector.grad)
        for parameter in self.small_parameters.values():
            parameter.grad = None
        for name, parameter in self.large.items():
            self.weights[name].grad, parameter.grad = parameter.grad, None
        gradients = [weight.grad for weight in self.weights.values() if weight.grad is not None]
        return torch.stack(torch._foreach_norm(gradients, 2, torch.float32)).norm()

    @torch.no_grad()
    def step(self, number: int, learning_rate: float, gradient_norm: float) -> None:
        """Learn from the gradients that are there; nothing is changed when their norm, which `finish_gradients`
        gave, is not finite. Steps count from 1."""
        if math.isfinite(gradient_norm):
            self._move(
                Update(
                    step=number,
                    learning_rate=learning_rate,
                    gradient_scale=min(1.0, MAX_GRADIENT_NORM / (gradient_norm + 1e-6)),
                    beta1=self.options.beta1,
                    beta2=self.options.beta2,
                    eps=self.options.eps,
                    weight_decay=self.options.weight_decay,
                    seed=self.options.seed,
                )
            )
        for weight in self.weights.values():
            if weight is not self.vector:
                weight.grad = None
        assert self.vector.grad is not None
        self.vector.grad.zero_()

    def _move(self, update: Update) -> None:
        for layer in self.layers.values():
            if layer.low.grad is not None:
                layer.project(layer.low.grad)
                direction = layer.low.direction(layer.low.grad, update)
                layer.low.grad = None
                layer.project(direction)
                layer.low.step(direction, update)
        for weight in (*(self.weights[name] for name in self.large), self.vector):
            if weight.grad is not None:
                direction = weight.direction(weight.grad, update)
                if weight is self.vector:
                    self._protect(direction)
                weight.step(direction, update)
        self._refresh()

    def _protect(self, vector: Tensor) -> None:
        """Keep the adapters' parts of something shaped like the small weights' vector out of what is protected."""
        if self.protections:
            parts = self._views(vector)
            for name, protection in self.protections.items():
                protection.project(parts[f"{name}.{A}"], parts[f"{name}.{B}"])

    def _refresh(self) -> None:
        """Bring what is computed with up to date."""
        if self.dtype == torch.float32:
            return
        self.computed.copy_(self.vector.value)
        for name, parameter in self.large.items():
            parameter.data.copy_(self.weights[name].values(self.dtype))

    def state(self) -> dict[str, Tensor]:
        """All that a checkpoint keeps, by name; not copied."""
        return {
            f"{name}/{part}": tensor for name, weight in self.weights.items() for part, tensor in weight.state().items()
        }

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        self._refresh()
