"""The backend's algorithm is the library's: the same factors and the same samples give the same weights.

The oracle is mini_trainer's own OSFT model class with its optimizer wrapper, fed one sample at a time without packing.
A training in bfloat16 is measured by the one in float32.
"""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mini_trainer.osft_utils import create_osft_model_class, optim_wrapper
from torch import Tensor
from transformers import AutoTokenizer, LlamaForCausalLM, get_scheduler

from components.data import chat
from components.data.packs import packs
from components.data.samples import Sample, tokenize
from components.run.training_options import TrainingOptions
from components.training import loop
from components.training.factors import OSFTLinear, factored_layers, frozen_rank, target_names
from components.training.loading import load
from components.training.loss import PackLoss
from components.training.optimizer import Optimizer
from components.training.weights import CompactWeight
from tests.tiny_model import write_tiny_model

PATTERNS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SAMPLES = 6
SMALL_STEP = TrainingOptions(
    learning_rate=5e-6, lr_scheduler="constant", num_epochs=15, effective_batch_size=3, unfreeze_rank_ratio=0.5
)


def samples_for(folder: Path) -> list[Sample]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [
        tokenize(
            chat.training_row("Be brief.", f"What is rule {n}?", f"Rule {n} is {'very ' * n}old.")["messages"],
            tokenizer,
        )
        for n in range(SAMPLES)
    ]


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
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=0, num_training_steps=options.steps(len(samples)))
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


def trained_weights(model: LlamaForCausalLM, optimizer: Optimizer, base: dict[str, Tensor]) -> dict[str, Tensor]:
    """All weights of a factorized model in float32, under the names of the plain one."""
    layers = factored_layers(model)
    weights = {}
    for name, before in base.items():
        layer = layers.get(name.removesuffix(".weight"))
        trained = optimizer.value("model.embed_tokens.weight" if name == "lm_head.weight" else name)
        after = layer.frozen_weight(before) + layer.trained_part() if layer else trained
        assert after is not None, name
        weights[name] = after
    return weights


def plain_model(folder: Path, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    model = LlamaForCausalLM.from_pretrained(folder, dtype=dtype)
    assert model.config.tie_word_embeddings
    return model


@pytest.fixture(scope="module")
def first_layers_of_smollm2(smollm2, tmp_path_factory):
    """Real weights in their real shapes, of which all 30 layers would take minutes."""
    folder = tmp_path_factory.mktemp("smollm2") / "layers"
    LlamaForCausalLM.from_pretrained(smollm2, num_hidden_layers=2).save_pretrained(folder)
    AutoTokenizer.from_pretrained(smollm2).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("model", "learning_rate", "epochs"), [("tiny_model", 1e-3, 3), ("first_layers_of_smollm2", 2e-4, 1)]
)
def test_weights_equal_those_of_mini_trainer(request, model, learning_rate, epochs):
    folder: Path = request.getfixturevalue(model)
    options = TrainingOptions(learning_rate=learning_rate, num_epochs=epochs, effective_batch_size=3)
    samples = samples_for(folder)
    factors, theirs = stock_training(folder, samples, options)

    ours = plain_model(folder)
    base = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    assert sorted(target_names(ours, PATTERNS, options.unfreeze_rank_ratio)) == sorted(factors)
    for name, svd in factors.items():  # the same factors: a decomposition is unique up to signs only
        frozen = frozen_rank(tuple(ours.get_submodule(name).weight.shape), options.unfreeze_rank_ratio)
        assert frozen == len(svd["S_high"])
        U, S = torch.cat([svd["U_high"], svd["U_low"]], dim=1), torch.cat([svd["S_high"], svd["S_low"]])
        layer = OSFTLinear(name, (U, S, torch.cat([svd["V_high"], svd["V_low"]])), frozen, torch.float32)
        ours.set_submodule(name, layer)
    optimizer = Optimizer(ours, options, torch.float32)
    history: list[loop.StepMetrics] = []
    loop.train(PackLoss(ours), optimizer, samples, options, history, lambda epoch: None, lambda metrics: True)
    weights = trained_weights(ours, optimizer, base)

    assert len(history) == 2 * epochs
    assert sorted(weights) == sorted(theirs)
    for name, tensor in weights.items():
        assert (tensor - theirs[name]).norm() <= 1e-4 * theirs[name].norm(), name
        assert (theirs[name] - base[name]).norm() > 1e-4 * base[name].norm(), f"{name} was not trained"
    for name, svd in factors.items():
        change = weights[f"{name}.weight"] - base[f"{name}.weight"]
        free = change - svd["U_high"] @ (svd["U_high"].T @ change)
        free -= (free @ svd["V_high"].T) @ svd["V_high"]
        # What a decomposition in float32 is off by is no change that the training made.
        assert (change - free).norm() < 1e-3 * change.norm() + 1e-6 * base[f"{name}.weight"].norm(), name


def loss_of(model: LlamaForCausalLM, samples: list[Sample]) -> float:
    """In nats per token, computed in float32."""
    loss_tokens = sum(sample.loss_tokens for sample in samples)
    with torch.no_grad():
        return sum(float(PackLoss(model)(pack, loss_tokens)) for pack in packs(samples, 4096))


def loss_decrease_by_osft(folder: Path, samples: list[Sample], dtype: torch.dtype) -> float:
    """By how much the training lowers the loss."""
    plain = plain_model(folder)
    before = loss_of(plain, samples)
    model = load(folder, SMALL_STEP, torch.device("cpu"), dtype, "sdpa")
    optimizer = Optimizer(model, SMALL_STEP, dtype)
    compact = sum(isinstance(weight, CompactWeight) for weight in optimizer.weights.values())
    assert compact == (6 if dtype == torch.bfloat16 else 0)
    loop.train(PackLoss(model), optimizer, samples, SMALL_STEP, [], lambda epoch: None, lambda metrics: True)
    plain.load_state_dict(trained_weights(model, optimizer, plain.state_dict()))
    return before - loss_of(plain, samples)


def loss_decrease_by_plain_adamw(folder: Path, samples: list[Sample], dtype: torch.dtype) -> float:
    model = plain_model(folder, dtype)
    before = loss_of(plain_model(folder), samples)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=SMALL_STEP.learning_rate, betas=(SMALL_STEP.beta1, SMALL_STEP.beta2), weight_decay=0.0
    )
    for _, batch in loop.batches(samples, SMALL_STEP):
        loss_tokens = sum(sample.loss_tokens for sample in batch)
        for pack in packs(batch, SMALL_STEP.max_tokens_per_gpu):
            PackLoss(model)(pack, loss_tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return before - loss_of(model.float(), samples)


def test_training_in_bfloat16_learns_as_much_as_in_float32_at_a_learning_rate_that_plain_bfloat16_loses(tmp_path):
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1}
    folder = write_tiny_model(tmp_path, dtype=torch.bfloat16, **sizes)
    samples = samples_for(folder)
    expected = loss_decrease_by_osft(folder, samples, torch.float32)

    assert expected > 0.5
    assert loss_decrease_by_osft(folder, samples, torch.bfloat16) == pytest.approx(expected, rel=0.05)
    assert loss_decrease_by_plain_adamw(folder, samples, torch.bfloat16) < 0.2 * expected
