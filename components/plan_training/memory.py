"""GPU memory that a training needs, computed from the model's shapes alone."""

import dataclasses
from typing import Any

from components.train_osft.factors import frozen_rank, held_entries
from components.train_osft.options import TrainingOptions

FLOAT32_BYTES = 4
COPIES_TRAINED = 4  # the value, its gradient, and AdamW's two moments
COPIES_OF_LOGITS = 3  # the logits, their softmax and its gradient
# Values kept per token and layer for the backward pass, in units of the hidden and the intermediate size; counted on a
# Llama layer: norms, projections, attention, residuals; gate, up, activation and product.
HIDDEN_KEPT, INTERMEDIATE_KEPT = 14, 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Where the bytes go; all in GiB."""

    frozen_gib: float
    trained_gib: float
    activations_gib: float
    frozen_entries: int
    trained_entries: int

    @property
    def total_gib(self) -> float:
        return self.frozen_gib + self.trained_gib + self.activations_gib


def plan_memory(config: Any, options: TrainingOptions) -> MemoryPlan:
    """Memory of the single-device backend for a model.

    Args:
        config: a transformers configuration.
        options: the training's options.
    """
    import torch
    from mini_trainer.osft_utils import get_model_patterns
    from transformers import AutoModelForCausalLM

    from components.train_osft.factors import target_names

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    targets = {
        f"{name}.weight"
        for name in target_names(model, options.target_patterns or tuple(get_model_patterns(type(model))))
    }
    frozen = trained = 0
    for name, parameter in model.named_parameters():
        rank = frozen_rank(tuple(parameter.shape), options.unfreeze_rank_ratio) if name in targets else 0
        if rank == 0:
            trained += parameter.numel()
        else:
            rows, columns = parameter.shape
            frozen += held_entries((rows, columns), rank)
            trained += (min(rows, columns) - rank) * (rows + columns + 1)
    tokens = options.max_tokens_per_gpu
    per_token = config.num_hidden_layers * (
        HIDDEN_KEPT * config.hidden_size + INTERMEDIATE_KEPT * config.intermediate_size
    )
    activations = tokens * (per_token + COPIES_OF_LOGITS * config.vocab_size)
    gib = FLOAT32_BYTES / 2**30
    return MemoryPlan(
        frozen_gib=frozen * gib,
        trained_gib=trained * COPIES_TRAINED * gib,
        activations_gib=activations * gib,
        frozen_entries=frozen,
        trained_entries=trained,
    )
