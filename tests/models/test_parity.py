"""The backend's algorithm is the library's: the same factors and the same samples give the same weights.

The oracle is mini_trainer's own OSFT model class with its optimizer wrapper, fed one sample at a time without packing.
"""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mini_trainer.osft_utils import create_osft_model_class, optim_wrapper
from transformers import AutoTokenizer, LlamaForCausalLM, get_scheduler

from components import chat
from components.train_osft import loop
from components.train_osft.factors import OSFTLinear, frozen_rank, plain_state_dict, target_names
from components.train_osft.options import TrainingOptions
from components.train_osft.samples import Sample, tokenize

PATTERNS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SAMPLES = 6


def stock_training(folder: Path, samples: list[Sample], options: TrainingOptions):
    """mini_trainer's model before and after training."""
    model = create_osft_model_class(LlamaForCausalLM).from_pretrained(
        str(folder),
        fsdp2_lazy_init=False,
        initialize_osft=False,
        rank_ratio=1 - options.unfreeze_rank_ratio,
        dtype=torch.float32,
    )
    model.reinitialize_osft(decompose_existing_weights=True)
    factors = {
        name: {key: value.detach().clone() for key, value in svd.items() if key != "rank_high"}
        for name in target_names_of(model)
        for svd in [model.get_svd_dict_for_module(model.get_submodule(name))]
    }
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = optim_wrapper(
        torch.optim.AdamW(parameters, lr=options.learning_rate, betas=(0.9, 0.95), weight_decay=0.0), model
    )
    schedule = get_scheduler(
        "cosine", optimizer, num_warmup_steps=0, num_training_steps=loop.step_count(len(samples), options)
    )
    for _, batch in loop.batches(samples, options):
        loss_tokens = sum(sample.loss_tokens for sample in batch)
        for sample in batch:
            logits = model(input_ids=torch.tensor([sample.tokens])).logits[0, :-1]
            loss = F.cross_entropy(logits, torch.tensor(sample.labels[1:]), reduction="sum") / loss_tokens
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return factors, model.prepare_state_dict_for_save(model.state_dict())


def target_names_of(model) -> list[str]:
    return [name.removesuffix(".weight") for name in model.osft_paramspec_registry]


@pytest.mark.parametrize(("model", "learning_rate"), [("tiny_model", 1e-3), ("smollm2", 2e-4)])
def test_weights_equal_those_of_mini_trainer(request: pytest.FixtureRequest, model: str, learning_rate: float) -> None:
    folder: Path = request.getfixturevalue(model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    options = TrainingOptions(learning_rate=learning_rate, num_epochs=3, effective_batch_size=3)
    samples = [
        tokenize(
            chat.training_row("Be brief.", f"What is rule {n}?", f"Rule {n} is {'very ' * n}old.")["messages"],
            tokenizer,
        )
        for n in range(SAMPLES)
    ]
    factors, theirs = stock_training(folder, samples, options)

    ours = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    base = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    assert sorted(target_names(ours, PATTERNS)) == sorted(factors)
    for name, svd in factors.items():  # the same factors: a decomposition is unique up to signs only
        linear = ours.get_submodule(name)
        frozen = frozen_rank(tuple(linear.weight.shape), options.unfreeze_rank_ratio)
        assert frozen == len(svd["S_high"])
        U, S = torch.cat([svd["U_high"], svd["U_low"]], dim=1), torch.cat([svd["S_high"], svd["S_low"]])
        ours.set_submodule(name, OSFTLinear(linear, frozen, U, S, torch.cat([svd["V_high"], svd["V_low"]])))
    steps = loop.train(ours, samples, options, on_step=lambda metrics: None)
    weights = plain_state_dict(ours, torch.float32)

    assert len(steps) >= 5
    assert sorted(weights) == sorted(theirs)
    for name, tensor in weights.items():
        assert (tensor - theirs[name]).norm() <= 1e-4 * theirs[name].norm(), name
        assert (theirs[name] - base[name]).norm() > 1e-4 * base[name].norm(), f"{name} was not trained"
    for name, svd in factors.items():
        change = weights[f"{name}.weight"] - base[f"{name}.weight"]
        free = change - svd["U_high"] @ (svd["U_high"].T @ change)
        free -= (free @ svd["V_high"].T) @ svd["V_high"]
        assert (change - free).norm() < 1e-3 * change.norm(), name
