"""`training_hub.osft(backend="single-device")`: options honoured or refused by name, results that repeat, callbacks."""

import dataclasses
import inspect
import json
import math
import shutil
from pathlib import Path
from typing import Any

import mini_trainer
import pytest
import torch
import training_hub
from safetensors.torch import load_file, save_file
from training_hub import TrainingHubCallback
from transformers import AutoModelForCausalLM, AutoTokenizer

from components.data.samples import Sample
from components.run.training_options import TrainingOptions
from components.shared.problems import Problems
from components.shared.storage import read_jsonl
from components.training.backend import HARMLESS, HONOURED, PATHS
from components.training.loop import DIVERGED_STEPS, StepMetrics, check_health
from tests.tiny_model import train_tiny_model, write_tiny_model

HOOKS = [name for name, _ in inspect.getmembers(TrainingHubCallback, inspect.isfunction) if name.startswith("on_")]
STEPS, STEPS_OF_EPOCH = 6, 3  # 7 samples by 3, twice


class Recorder(TrainingHubCallback):
    """Keeps every call of a hook with the step and loss that it was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int, float | None]] = []

    def __getattribute__(self, name: str) -> Any:
        if name in HOOKS:
            return lambda context: self.events.append((name, context.step, context.loss))
        return super().__getattribute__(name)


class Failing(TrainingHubCallback):
    def on_step_end(self, context: Any) -> None:
        raise RuntimeError("a callback of the user fails")


class Asking(TrainingHubCallback):
    """Asks for something at the end of a step."""

    def __init__(self, step: int, **asked: bool) -> None:
        self.step, self.asked = step, asked

    def on_step_end(self, context: Any) -> None:
        if context.step == self.step:
            for name, value in self.asked.items():
                assert hasattr(context.control, name)
                setattr(context.control, name, value)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_the_result_is_a_plain_model_folder_that_learnt(tiny_model: Path, tmp_path: Path) -> None:
    result = train_tiny_model(tiny_model, tmp_path)

    assert [step.step for step in result.steps] == [1, 2, 3, 4, 5, 6]  # 7 samples by 3, twice
    assert result.steps[-1].loss < result.steps[0].loss
    model = AutoModelForCausalLM.from_pretrained(result.model_path)
    assert model.config.architectures == ["LlamaForCausalLM"]
    assert model.config.tie_word_embeddings
    assert AutoTokenizer.from_pretrained(result.model_path).chat_template
    assert sorted(weights(result.model_path)) == sorted(weights(tiny_model))
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in logged] == [step.loss for step in result.steps]


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(tiny_model: Path, tmp_path: Path) -> None:
    first, again, other = (
        weights(train_tiny_model(tiny_model, tmp_path / name, seed=seed).model_path)
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_splitting_a_step_into_packs_changes_nothing_but_rounding(tiny_model: Path, tmp_path: Path) -> None:
    whole = train_tiny_model(tiny_model, tmp_path / "whole", max_tokens_per_gpu=1000)
    split = train_tiny_model(tiny_model, tmp_path / "split", max_tokens_per_gpu=128)

    for one, other in zip(whole.steps, split.steps, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-4)


def test_the_model_is_saved_in_the_number_format_of_its_base(tmp_path: Path) -> None:
    base = write_tiny_model(tmp_path / "base", dtype=torch.bfloat16)

    adapted = train_tiny_model(base, tmp_path / "out").model_path

    assert {tensor.dtype for tensor in weights(adapted).values()} == {torch.bfloat16}
    assert AutoModelForCausalLM.from_pretrained(adapted, dtype="auto").dtype == torch.bfloat16


def test_every_hook_is_called_in_order_with_the_step_that_is_done(tiny_model: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    assert len(HOOKS) == 9

    result = train_tiny_model(tiny_model, tmp_path, callbacks=[Failing(), recorder])

    loss = [None, *(step.loss for step in result.steps)]
    expected = [("on_train_begin", 0)]
    for step in range(1, STEPS + 1):
        if step % STEPS_OF_EPOCH == 1:
            expected += [("on_epoch_begin", step - 1)]
        expected += [("on_step_begin", step - 1), ("on_log", step), ("on_step_end", step)]
        if step % STEPS_OF_EPOCH == 0:
            expected += [("on_epoch_end", step)]
    expected += [("on_save", STEPS), ("on_train_end", STEPS)]
    assert recorder.events == [(hook, step, loss[step]) for hook, step in expected]


def test_a_failing_callback_is_reported_and_does_not_stop_the_training(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train_tiny_model(tiny_model, tmp_path, callbacks=Failing())

    assert len(result.steps) == STEPS
    out = capsys.readouterr().out
    assert out.count("callback Failing.on_step_end failed, training goes on") == STEPS
    assert "a callback of the user fails" in out


def test_a_callback_may_end_the_training_early_and_the_model_is_saved(tiny_model: Path, tmp_path: Path) -> None:
    recorder = Recorder()

    result = train_tiny_model(tiny_model, tmp_path, callbacks=[Asking(4, should_training_stop=True), recorder])

    assert [step.step for step in result.steps] == [1, 2, 3, 4]
    assert (result.model_path / "model.safetensors").exists()
    assert [hook for hook, _, _ in recorder.events][-3:] == ["on_epoch_end", "on_save", "on_train_end"]
    assert [line["step"] for line in read_jsonl(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


def test_a_callback_may_ask_for_a_checkpoint(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_tiny_model(tiny_model, tmp_path, callbacks=Asking(2, should_save=True))

    out = capsys.readouterr().out
    assert out.count("checkpoint of step ") == 1
    assert "checkpoint of step 2 written" in out


def with_weights(base: Path, folder: Path, change: dict[str, tuple[Any, float]]) -> Path:
    """A copy of a model with other numbers at some places of its weights."""
    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    for name, (place, value) in change.items():
        weights[name][place] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "name", ["model.embed_tokens.weight", "model.norm.weight", "model.layers.1.self_attn.o_proj.weight"]
)
def test_a_base_model_with_a_weight_that_is_no_number_is_refused_with_its_name(
    tiny_model: Path, tmp_path: Path, name: str, value: float
) -> None:
    base = with_weights(tiny_model, tmp_path / "base", {name: (-1, value)})

    with pytest.raises(Problems, match=f"{name} holds numbers that are not finite"):
        train_tiny_model(base, tmp_path)

    assert not (tmp_path / "hf_format").exists()


def test_a_step_without_a_finite_loss_stops_the_training_naming_step_rows_and_advice(tmp_path: Path) -> None:
    """Row 4 alone has the token that is too large to compute with."""
    plain = write_tiny_model(tmp_path / "plain", tie_word_embeddings=False)
    tokenizer = AutoTokenizer.from_pretrained(plain)
    (token,) = tokenizer("9").input_ids  # "What is 3?" is answered by "It is 9."
    base = with_weights(plain, tmp_path / "base", {"model.embed_tokens.weight": (token, 3e38)})

    with pytest.raises(Problems) as caught:
        train_tiny_model(base, tmp_path / "out", samples=5, effective_batch_size=1, learning_rate=1e-3)

    text = str(caught.value)
    lines = read_jsonl(tmp_path / "out" / "metrics.jsonl")
    assert f"step {len(lines) + 1} of 10 has loss" in text
    assert "nan" in text
    assert "rows 4 of the training data" in text
    assert "lower learning_rate (it was 0.00" in text
    assert not (tmp_path / "out" / "hf_format").exists()


def test_an_absurd_learning_rate_stops_the_training_when_the_loss_diverges(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(Problems, match="the loss diverges") as caught:
        train_tiny_model(tiny_model, tmp_path, learning_rate=0.9, num_epochs=8)

    assert "of the training data" in str(caught.value)
    assert "lower learning_rate (it was 0." in str(caught.value)
    assert not (tmp_path / "hf_format").exists()


LN_300 = math.log(300)


@pytest.mark.parametrize(
    ("losses", "gradient", "said"),
    [
        ([2.0] * 9, 1.0, None),
        ([2.0, *[LN_300 + 0.1] * 4], 1.0, None),  # not yet
        ([2.0, *[LN_300 + 0.1] * 5], 1.0, "the loss diverges: 5.80 to 5.80 in steps 2 to 6, 2.00 in the first"),
        ([2.0, *[LN_300 + 0.1] * 4, 2.0, *[LN_300 + 0.1] * 4], 1.0, None),  # not in a row
        ([4.0, *[7.9] * 9], 1.0, None),  # worse than guessing, not than twice the first
        ([4.0, *[8.1] * 5], 1.0, "the loss diverges"),
        ([8.0] * 9, 1.0, None),  # began worse than guessing
        ([2.0, math.nan], 1.0, "step 2 of 20 has loss nan and gradient norm 1"),
        ([2.0, math.inf], 1.0, "step 2 of 20 has loss inf"),
        ([2.0], math.nan, "step 1 of 20 has loss 2 and gradient norm nan"),
        ([2.0], math.inf, "gradient norm inf"),
    ],
)
def test_losses_stop_a_training_that_cannot_be_right(losses: list[float], gradient: float, said: str | None) -> None:
    assert DIVERGED_STEPS == 5
    history = [
        StepMetrics(
            step=step,
            steps=20,
            epoch=1,
            loss=loss,
            learning_rate=1e-3,
            gradient_norm=gradient if step == len(losses) else 1.0,
            tokens=10,
            loss_tokens=5,
            seconds=1.0,
            peak_memory_gib=0.0,
        )
        for step, loss in enumerate(losses, 1)
    ]
    batch = [Sample([1], [1], row=9), Sample([1], [1], row=4)]

    if said is None:
        check_health(history, batch, vocabulary=300)
        return
    with pytest.raises(Problems) as caught:
        check_health(history, batch, vocabulary=300)
    assert said in str(caught.value)
    assert "rows 4, 9 of the training data" in str(caught.value)
    assert "lower learning_rate (it was 0.001" in str(caught.value)


HUB = {name: parameter.annotation for name, parameter in inspect.signature(training_hub.osft).parameters.items()}
STOCK = {field.name: field.type for field in dataclasses.fields(mini_trainer.TrainingArgs)}
OURS = {*(field.name for field in dataclasses.fields(TrainingOptions)), *PATHS, *HONOURED, "backend"}
ONLY_TRUE = {name for name, values in HARMLESS.items() if values == (True,)}  # False is the same as not asking
KNOWN_ELSEWHERE = sorted({*HUB, *STOCK} - OURS - ONLY_TRUE - {"kwargs"})
# Values of which training_hub itself would complain, and what it wants beside others.
ASKED: dict[str, dict[str, Any]] = {
    "block_size": {"block_size": 128, "is_pretraining": True},
    "is_pretraining": {"block_size": 128, "is_pretraining": True},
    "checkpoint_storage": {"checkpoint_storage": "pvc"},
}


def asked(name: str) -> dict[str, Any]:
    """A value for an option that nobody has by default."""
    kind = str(HUB.get(name, STOCK.get(name)))
    value: Any = "x"
    for part, example in (("bool", True), ("int", 3), ("float", 0.5)):
        if part in kind and "str" not in kind:
            value = example
            break
    return ASKED.get(name, {name: value})


def test_options_of_the_stock_backend_are_found() -> None:
    assert len(HUB) > 40
    assert len(STOCK) > 40
    assert len(KNOWN_ELSEWHERE) > 40
    assert {"learning_rate", "seed", "callbacks", "num_epochs"} <= OURS & {*HUB}
    assert {"use_liger", "nproc_per_node", "mlflow_run_name", "validation_split", "osft_upcast_dtype"} <= {
        *KNOWN_ELSEWHERE
    }


@pytest.mark.parametrize("name", KNOWN_ELSEWHERE)
def test_every_option_of_the_stock_backend_that_is_not_honoured_is_refused_by_name(
    tiny_model: Path, tmp_path: Path, name: str
) -> None:
    options = asked(name)

    with pytest.raises(Problems) as caught:
        train_tiny_model(tiny_model, tmp_path, **options)

    assert all(f"option {given} = " in str(caught.value) for given in options)
    assert not (tmp_path / "hf_format").exists()


def test_options_that_say_what_holds_anyway_are_taken(tiny_model: Path, tmp_path: Path) -> None:
    for number in range(max(len(values) for values in HARMLESS.values())):
        options = {name: values[min(number, len(values) - 1)] for name, values in HARMLESS.items()}
        output = tmp_path / str(number)
        assert len(train_tiny_model(tiny_model, output, num_epochs=1, **options).steps) == STEPS_OF_EPOCH


@pytest.mark.parametrize(
    "options",
    [
        {"unfreeze_rank_ratio": 0.5},
        {"num_epochs": 1},
        {"effective_batch_size": 2},
        {"learning_rate": 2e-2},
        {"seed": 2},
        {"lr_scheduler": "linear"},
        {"lr_scheduler": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": 2}},
        {"warmup_steps": 2},
        {"beta1": 0.5},
        {"beta2": 0.5},
        {"eps": 1e-3},
        {"weight_decay": 0.5},
        {"target_patterns": ["q_proj"]},
        {"train_dtype": "bfloat16"},
        {"unmask_messages": True},
    ],
    ids=lambda options: ",".join(options),
)
def test_an_option_that_is_honoured_changes_the_result(
    tiny_model: Path, tmp_path: Path, default: dict[str, torch.Tensor], options: dict[str, Any]
) -> None:
    changed = weights(train_tiny_model(tiny_model, tmp_path, **options).model_path)

    assert any(not torch.equal(default[name], changed[name]) for name in default)


@pytest.fixture(scope="module")
def default(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return weights(train_tiny_model(tiny_model, tmp_path_factory.mktemp("default")).model_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learning_rte": 1e-3}, r"learning_rte .*did you mean learning_rate"),
        ({"osft_memory_efficient_init": True}, "osft_memory_efficient_init"),
        ({"use_liger": True}, "use_liger"),
        ({"is_pretraining": True, "block_size": 16}, "is_pretraining"),
        ({"wandb_project": "x"}, "wandb_project"),
        ({"nproc_per_node": 2}, "one process on one device"),
        ({"save_final_checkpoint": False}, "only result"),
        ({"max_seq_len": 8}, "max_seq_len is '8'"),
        ({"max_seq_len": 32}, "7 of 7 samples are longer"),
        ({"unfreeze_rank_ratio": 0.0}, "unfreeze_rank_ratio is '0.0'"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(
    tiny_model: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(Problems, match=said):
        train_tiny_model(tiny_model, tmp_path, **options)

    assert not (tmp_path / "hf_format").exists()
