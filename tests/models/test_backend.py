"""`training_hub.osft(backend="single-device")`: options honoured or refused by name, results that repeat, callbacks."""

import dataclasses
import inspect
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

from components.run.training_options import TrainingOptions
from components.shared.problems import Problems
from components.shared.storage import read_jsonl
from components.training.backend import HARMLESS, HONOURED, PATHS, TrainingResult, parse_options
from tests.tables import table
from tests.tiny_model import same_bits, train_tiny_model, write_tiny_model

HOOKS = [name for name, _ in inspect.getmembers(TrainingHubCallback, inspect.isfunction) if name.startswith("on_")]
STEPS, STEPS_OF_EPOCH = 6, 3  # 7 samples by 3, twice


class Recorder(TrainingHubCallback):
    """Keeps every call of a hook with its step and loss."""

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

    def __init__(self, step: int, asked: str) -> None:
        self.step, self.asked = step, asked

    def on_step_end(self, context: Any) -> None:
        if context.step == self.step:
            assert getattr(context.control, self.asked) is False
            setattr(context.control, self.asked, True)


def weights(result: TrainingResult) -> dict[str, torch.Tensor]:
    return load_file(result.model_path / "model.safetensors")


def test_the_result_is_a_plain_model_folder_with_a_lower_loss(tiny_model, tiny_result):
    assert [step.step for step in tiny_result.steps] == [*range(1, STEPS + 1)]
    assert tiny_result.steps[-1].loss < tiny_result.steps[0].loss
    model = AutoModelForCausalLM.from_pretrained(tiny_result.model_path)
    assert model.config.architectures == ["LlamaForCausalLM"]
    assert model.config.tie_word_embeddings
    assert AutoTokenizer.from_pretrained(tiny_result.model_path).chat_template
    assert weights(tiny_result).keys() == load_file(tiny_model / "model.safetensors").keys()
    logged = read_jsonl(tiny_result.model_path.parents[1] / "metrics.jsonl")
    assert [line["loss"] for line in logged] == [step.loss for step in tiny_result.steps]


def test_the_same_options_give_the_same_bits(tiny_model, tiny_result, tmp_path):
    assert same_bits(tiny_result, train_tiny_model(tiny_model, tmp_path))


def test_splitting_a_step_into_packs_changes_nothing_but_rounding(tiny_model, tiny_result, tmp_path, capsys):
    split = train_tiny_model(tiny_model, tmp_path, max_tokens_per_gpu=100, max_seq_len=100)

    assert "in 10 packs" in capsys.readouterr().out  # three samples of a step in two, the last one's in one
    for one, other in zip(tiny_result.steps, split.steps, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-4)


def test_every_hook_is_called_in_order_and_a_failing_callback_stops_nothing(tiny_model, tmp_path, capsys):
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
    out = capsys.readouterr().out
    assert out.count("callback Failing.on_step_end failed, training continues") == STEPS
    assert "a callback of the user fails" in out


def test_a_callback_may_ask_for_a_checkpoint_and_end_the_training_early(tiny_model, tmp_path, capsys):
    recorder, asking = Recorder(), [Asking(2, "should_save"), Asking(4, "should_training_stop")]

    result = train_tiny_model(tiny_model, tmp_path, callbacks=[*asking, recorder])

    out = capsys.readouterr().out
    assert out.count("checkpoint of step ") == out.count("checkpoint of step 2 written") == 1
    assert [step.step for step in result.steps] == [1, 2, 3, 4]
    assert weights(result)
    assert [hook for hook, _, _ in recorder.events][-3:] == ["on_epoch_end", "on_save", "on_train_end"]
    assert [line["step"] for line in read_jsonl(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


def with_weights(base: Path, folder: Path, change: dict[str, tuple[Any, float]]) -> Path:
    """A copy of a model with other numbers at some places of its weights."""
    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    for name, (place, value) in change.items():
        weights[name][place] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.embed_tokens.weight", math.nan),
        ("model.norm.weight", math.inf),
        ("model.layers.1.self_attn.o_proj.weight", -math.inf),
    ],
)
def test_a_base_model_with_a_weight_that_is_nan_or_infinite_is_refused_with_its_name(tiny_model, tmp_path, name, value):
    base = with_weights(tiny_model, tmp_path / "base", {name: (-1, value)})

    with pytest.raises(Problems, match=f"{name} holds values that are NaN or infinite"):
        train_tiny_model(base, tmp_path)

    assert not (tmp_path / "hf_format").exists()


def test_a_step_without_a_finite_loss_stops_the_training_naming_step_rows_and_advice(tmp_path):
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


def test_an_absurd_learning_rate_stops_the_training_when_the_loss_diverges(tiny_model, tmp_path):
    with pytest.raises(Problems, match="the loss diverges") as caught:
        train_tiny_model(tiny_model, tmp_path, learning_rate=0.9, num_epochs=8)

    assert "of the training data" in str(caught.value)
    assert "lower learning_rate (it was 0." in str(caught.value)
    assert not (tmp_path / "hf_format").exists()


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


def test_every_option_of_the_stock_backend_that_is_not_honoured_is_refused_by_name(tiny_model, tmp_path):
    assert len(KNOWN_ELSEWHERE) > 40
    assert {"learning_rate", "seed", "callbacks", "num_epochs"} <= OURS & {*HUB}
    for name in KNOWN_ELSEWHERE:
        with pytest.raises(Problems) as caught:
            train_tiny_model(tiny_model, tmp_path, **asked(name))
        assert all(f"option {given} = " in str(caught.value) for given in asked(name))
    assert not (tmp_path / "hf_format").exists()


def test_options_that_say_what_holds_anyway_are_taken(tiny_model, tiny_result, tmp_path):
    for number in range(max(len(values) for values in HARMLESS.values())):
        options = {name: values[min(number, len(values) - 1)] for name, values in HARMLESS.items()}
        assert parse_options(options) == TrainingOptions()
    assert same_bits(tiny_result, train_tiny_model(tiny_model, tmp_path, **options))


@pytest.mark.parametrize(
    "options",
    table("backend", "honoured"),
    ids=lambda options: ",".join(options),
)
def test_an_option_that_is_honoured_changes_the_result(tiny_model, tiny_result, tmp_path, options):
    assert not same_bits(tiny_result, train_tiny_model(tiny_model, tmp_path, **options))


@pytest.mark.parametrize(("options", "said"), table("backend", "refused"))
def test_what_is_not_honoured_is_refused_by_name(tiny_model, tmp_path, options, said):
    with pytest.raises(Problems, match=said):
        train_tiny_model(tiny_model, tmp_path, **options)

    assert not (tmp_path / "hf_format").exists()
