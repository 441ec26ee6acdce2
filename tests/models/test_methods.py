"""LoRA and plain fine-tuning by the door of OSFT: the same loop trains what PEFT and torch would, and a plain model
comes out.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, get_scheduler

from components.data import chat
from components.data.samples import Sample, tokenize
from components.evaluate import audit
from components.models.shapes import frozen_rank
from components.run.findings import BROKEN, KEPT
from components.run.training_options import LORA, SFT, TrainingOptions
from components.shared.problems import Problems
from components.training import loop
from components.training.adapters import adapted_layers, add_adapters
from components.training.loading import enable_checkpointing, load
from components.training.loss import PackLoss
from components.training.optimizer import Optimizer
from components.training.saving import save
from tests.tiny_model import same_bits, train_tiny_model, write_tiny_model

MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SHARED: dict[str, Any] = {"learning_rate": 1e-3, "num_epochs": 3, "effective_batch_size": 3, "weight_decay": 0.01}


def samples_for(folder: Path) -> list[Sample]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = (chat.training_row("Be brief.", f"What is rule {n}?", f"It is {'very ' * n}old.") for n in range(6))
    return [tokenize(row["messages"], tokenizer) for row in rows]


def train(folder: Path, samples: list[Sample], options: TrainingOptions, final: Path) -> tuple[list[float], dict]:
    """The losses of the project's training, and the weights that it saves."""
    model = load(folder, options, torch.device("cpu"), torch.float32, "sdpa")
    optimizer, history = Optimizer(model, options, torch.float32), []
    loop.train(PackLoss(model), optimizer, samples, options, history, lambda epoch: None, lambda metrics: True)
    save(model, optimizer, folder, final, options.seed, {})
    return [metrics.loss for metrics in history], load_file(final / "model.safetensors")


def train_plainly(model: nn.Module, samples: list[Sample], options: TrainingOptions) -> list[float]:
    """The losses of torch's AdamW with transformers' schedule, one sample at a time and unpacked."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    betas = (options.beta1, options.beta2)
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate, betas=betas, weight_decay=options.weight_decay)
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=0, num_training_steps=options.steps(len(samples)))
    losses = []
    for _, batch in loop.batches(samples, options):
        loss_tokens, total = sum(sample.loss_tokens for sample in batch), 0.0
        for sample in batch:
            logits = model(input_ids=torch.tensor([sample.tokens])).logits[0, :-1]
            loss = F.cross_entropy(logits, torch.tensor(sample.labels[1:]), reduction="sum") / loss_tokens
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses


@pytest.mark.parametrize(
    ("options", "base"),
    [
        ({}, {}),
        ({"lora_r": 4, "lora_alpha": 6, "use_rslora": True, "target_modules": ("q_proj", "layers.1.mlp")}, {}),
        ({"lora_r": 3}, {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}),
    ],
    ids=["defaults", "other options", "biases"],
)
def test_lora_trains_what_peft_trains_step_by_step(
    tmp_path: Path, options: dict[str, Any], base: dict[str, Any]
) -> None:
    folder = write_tiny_model(tmp_path / "base", **base)
    given = TrainingOptions(method=LORA, **SHARED, **options)
    samples = samples_for(folder)
    losses, ours = train(folder, samples, given, tmp_path / "final")

    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    patterns = given.target_modules or MATRICES
    named = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and "layers" in name]
    names = [name for name in named if any(pattern in name for pattern in patterns)]
    torch.manual_seed(given.seed)
    peft = get_peft_model(
        model,
        LoraConfig(r=given.lora_r, lora_alpha=given.lora_alpha, use_rslora=given.use_rslora, target_modules=names),
    )
    expected = train_plainly(peft, samples, given)
    before, theirs = load_file(folder / "model.safetensors"), peft.merge_and_unload().state_dict()

    assert losses == pytest.approx(expected, abs=1e-5)
    assert losses[-1] < losses[0]
    assert ours.keys() == before.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-5)
        is_adapted = name.removesuffix(".weight") in names
        assert torch.equal(tensor, before[name]) != is_adapted, name  # what has no adapter keeps its bits
        if is_adapted:
            assert (tensor - before[name]).norm() > 1e-3 * before[name].norm()


class Explicit(nn.Module):
    """W + scaling (I - U U') B A (I - V V') as the paper writes it."""

    def __init__(self, base: nn.Linear, a: torch.Tensor, out: int, frozen: int, scaling: float) -> None:
        super().__init__()
        self.base, self.scaling = base.requires_grad_(False), scaling
        U, _, Vh = torch.linalg.svd(base.weight.double(), full_matrices=False)
        self.U, self.V = U[:, :frozen].float(), Vh[:frozen].T.float()
        self.a, self.b = nn.Parameter(a.clone()), nn.Parameter(torch.zeros(out, len(a)))

    def change(self) -> torch.Tensor:
        b = self.b - self.U @ (self.U.T @ self.b)
        return self.scaling * b @ (self.a - (self.a @ self.V) @ self.V.T)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + x @ self.change().T


def test_protected_adapters_train_what_the_paper_writes(tiny_model: Path, tmp_path: Path) -> None:
    options = TrainingOptions(method=LORA, lora_protect=True, unfreeze_rank_ratio=0.4, lora_r=4, **SHARED)
    samples = samples_for(tiny_model)
    losses, ours = train(tiny_model, samples, options, tmp_path / "final")

    plain = LlamaForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    add_adapters(plain, MATRICES, options)
    starts = {name: layer.lora_A["default"].weight.detach() for name, layer in adapted_layers(plain).items()}
    model = LlamaForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).requires_grad_(False)
    explicit = {}
    for name, a in starts.items():
        base = model.get_submodule(name)
        frozen = frozen_rank(tuple(base.weight.shape), 0.4)
        explicit[name] = Explicit(base, a, base.out_features, frozen, options.lora_alpha / options.lora_r)
        model.set_submodule(name, explicit[name])
    expected = train_plainly(model, samples, options)

    assert losses == pytest.approx(expected, abs=1e-5)
    assert len(explicit) == 14
    for name, layer in explicit.items():
        merged = layer.base.weight + layer.change().detach()
        torch.testing.assert_close(ours[f"{name}.weight"], merged, rtol=0, atol=1e-5)
        assert layer.change().norm() > 1e-3 * layer.base.weight.norm()


@pytest.mark.parametrize(("train_dtype", "share"), [("float32", 1e-5), ("bfloat16", 5e-3)])
@pytest.mark.parametrize("ratio", [0.25, 0.7])
def test_the_audit_finds_the_promise_of_protected_adapters_kept_and_that_others_make_none(
    tiny_model: Path, tmp_path: Path, train_dtype: str, share: float, ratio: float
) -> None:
    protected = {"lora_protect": True, "unfreeze_rank_ratio": ratio}
    result = train_tiny_model(tiny_model, tmp_path / "1", method=LORA, train_dtype=train_dtype, **protected)
    free = train_tiny_model(tiny_model, tmp_path / "2", method=LORA, train_dtype=train_dtype)

    patterns = audit.default_patterns(tiny_model)
    found = audit.audit(tiny_model, result.model_path, ratio, patterns)
    assert (found.word, found.unprotected_share) == (KEPT, 0.0)
    assert found.protected_change_ratio < share
    assert min(one.relative_change for one in found.matrices if one.protected) > 1e-3
    assert audit.audit(tiny_model, free.model_path, ratio, patterns).word == BROKEN
    assert result.steps[-1].loss < result.steps[0].loss - 0.5


def test_plain_fine_tuning_is_torchs_adamw_on_all_weights(tiny_model: Path, tmp_path: Path) -> None:
    options, samples = TrainingOptions(method=SFT, **SHARED), samples_for(tiny_model)
    losses, ours = train(tiny_model, samples, options, tmp_path / "final")

    model = LlamaForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    expected = train_plainly(model, samples, options)
    before, theirs = load_file(tiny_model / "model.safetensors"), model.state_dict()

    assert losses == pytest.approx(expected, abs=1e-5)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=2e-5)
        assert not torch.equal(tensor, before[name])


def test_frozen_weights_keep_their_bits_and_have_neither_gradients_nor_moments(
    tiny_model: Path, tmp_path: Path
) -> None:
    result = train_tiny_model(tiny_model, tmp_path, train_unfactored=False)
    model = load(tiny_model, TrainingOptions(train_unfactored=False), torch.device("cpu"), torch.float32, "sdpa")
    optimizer = Optimizer(model, TrainingOptions(train_unfactored=False), torch.float32)

    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_model, result.model_path))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{name}.weight" for name in optimizer.layers}
    assert len(changed) == 14
    assert result.steps[-1].loss < result.steps[0].loss - 0.5
    assert {name.split("/")[0].removesuffix(".low") for name in optimizer.state()} == {"small", *optimizer.layers}
    assert optimizer.vector.shape.numel() == sum(len(layer.S_low) for layer in optimizer.layers.values())


@pytest.mark.parametrize("method", [LORA, SFT])
def test_training_hubs_function_gives_a_plain_model_folder_with_a_lower_loss(
    tiny_model: Path, tmp_path: Path, method: str
) -> None:
    result = train_tiny_model(tiny_model, tmp_path / "one", method=method)

    assert result.steps[-1].loss < result.steps[0].loss - 0.5
    assert AutoModelForCausalLM.from_pretrained(result.model_path).config.architectures == ["LlamaForCausalLM"]
    assert AutoTokenizer.from_pretrained(result.model_path).chat_template
    weights = load_file(result.model_path / "model.safetensors")
    assert weights.keys() == load_file(tiny_model / "model.safetensors").keys()
    assert result.factored_matrices == 0
    assert same_bits(result, train_tiny_model(tiny_model, tmp_path / "other", method=method))


@pytest.mark.parametrize(
    "options",
    [
        {"lora_r": 4}, {"lora_alpha": 8}, {"lora_dropout": 0.2}, {"target_modules": ["mlp"]}, {"use_rslora": True},
        {"seed": 2},
    ],
    ids=lambda options: ",".join(options),
)  # fmt: skip
def test_an_option_of_lora_changes_the_result(tiny_model: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    default = train_tiny_model(tiny_model, tmp_path / "default", method=LORA, num_epochs=1)
    other = train_tiny_model(tiny_model, tmp_path / "other", method=LORA, **({"num_epochs": 1} | options))

    assert not same_bits(default, other)


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        (LORA, {"load_in_4bit": True}, r"option load_in_4bit = 'True' is not honoured(?s:.*)training_hub.lora_sft"),
        (LORA, {"use_dora": True}, "option use_dora = 'True' is not honoured"),
        (LORA, {"init_lora_weights": "pissa"}, "init_lora_weights can only be True"),
        (LORA, {"lora_rank": 8}, "lora_rank .*did you mean lora_"),
        (LORA, {"unfreeze_rank_ratio": 0.5}, "unfreeze_rank_ratio belongs to the method osft or lora_sft, there with"),
        (SFT, {"lora_r": 8}, "lora_r belongs to the method lora_sft"),
        (SFT, {"accelerate_full_state_at_epoch": True}, "accelerate_full_state_at_epoch = 'True' is not honoured"),
        ("osft", {"lora_r": 8}, "lora_r belongs to the method lora_sft"),
    ],
)
def test_what_the_method_does_not_honour_is_refused_by_name(
    tiny_model: Path, tmp_path: Path, method: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(Problems, match=said):
        train_tiny_model(tiny_model, tmp_path, method=method, **options)

    assert not (tmp_path / "hf_format").exists()


def test_adapters_compute_in_one_function_what_peft_computes(tiny_model: Path) -> None:
    """Forward, and every gradient, in the shapes of a pack; bfloat16 as well, within its rounding."""
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 5e-2)):
        results = []
        for dropout in (0.0, 1e-30):  # with dropout PEFT's own function computes; so little leaves out nothing
            model = LlamaForCausalLM.from_pretrained(tiny_model, dtype=dtype)
            add_adapters(model, ("up_proj",), TrainingOptions(method=LORA, lora_dropout=dropout))
            layer = model.get_submodule("model.layers.0.mlp.up_proj")
            torch.manual_seed(1)
            a, b = (factors["default"].weight for factors in (layer.lora_A, layer.lora_B))
            b.data.normal_()
            x = torch.randn(1, 9, 32, dtype=dtype, requires_grad=True)
            y = layer(x)
            (y.float().sin().sum()).backward()
            results.append([y, x.grad, a.grad, b.grad])
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(
                one.float(), other.float(), rtol=tolerance, atol=tolerance * float(other.detach().abs().max())
            )


@pytest.mark.parametrize(
    "options",
    [
        {"train_unfactored": False},
        {"method": LORA},
        {"method": LORA, "lora_protect": True},
        {"method": LORA, "lora_dropout": 0.5},
        {"method": SFT},
    ],
    ids=str,
)
def test_layers_that_are_computed_again_for_their_gradients_as_on_a_gpu_give_the_same(
    tiny_model: Path, options: dict[str, Any]
) -> None:
    """Frozen embeddings leave nothing that asks for a gradient, and dropout must leave out the same twice."""
    given, results = TrainingOptions(**options, **SHARED), []
    for again in (False, True):
        model = load(tiny_model, given, torch.device("cpu"), torch.float32, "sdpa")
        optimizer, history = Optimizer(model, given, torch.float32), []
        if again:
            enable_checkpointing(model, given)
        samples = samples_for(tiny_model)
        loop.train(PackLoss(model), optimizer, samples, given, history, lambda epoch: None, lambda metrics: True)
        results.append([(metrics.loss, metrics.gradient_norm) for metrics in history])

    assert results[0] == results[1]
    assert results[0][-1][0] < results[0][0][0]
