import dataclasses
import inspect
import math
import re

import pytest

from components.run.training_options import SCHEDULERS, TrainingOptions
from components.shared.problems import Problems
from tests.fast.conftest import only_problem_of, problems_of
from tests.tables import table

FROM_ONE = "an integer from 1"
FROM_16 = "an integer from 16"
FROM_ZERO = "an integer from 0"
BETA = "a number from 0 and below 1"
NO_NUMBERS = [None, "1", "", True, False, math.nan, math.inf, -math.inf, [1], {}]

BAD = {
    "unfreeze_rank_ratio": ("a number above 0 and up to 1", [0, 0.0, -0.25, 1.01, 2, *NO_NUMBERS]),
    "num_epochs": (FROM_ONE, [0, -1, 2.5, *NO_NUMBERS]),
    "effective_batch_size": (FROM_ONE, [0, -4, 0.5, *NO_NUMBERS]),
    "learning_rate": ("a number above 0 and below 1", [0, -5e-6, 1, 1.0, 5, "5e-6", *NO_NUMBERS]),
    "max_seq_len": (FROM_16, [0, 15, -1024, 1024.5, *NO_NUMBERS]),
    "max_tokens_per_gpu": (FROM_16, [0, 15, 2048.5, *NO_NUMBERS]),
    "seed": (FROM_ZERO, [-1, 0.5, *NO_NUMBERS]),
    "lr_scheduler": ("one of linear, cosine", ["", "Cosine", "cosine_annealing", None, 1, ["cosine"], {}]),
    "lr_scheduler_kwargs": ("names with values", [None, [], "a=1", 1, True]),
    "warmup_steps": (FROM_ZERO, [-1, 0.5, *NO_NUMBERS]),
    "beta1": (BETA, [-0.1, 1, 1.0, 2, *NO_NUMBERS]),
    "beta2": (BETA, [-0.1, 1, 1.0, 2, *NO_NUMBERS]),
    "eps": ("a number above 0", [0, -1e-8, *NO_NUMBERS]),
    "weight_decay": ("a number from 0", [-0.1, *NO_NUMBERS]),
    "train_dtype": (
        "one of auto, bfloat16, float32",
        ["", "BFloat16", "bf16", "float16", "torch.bfloat16", None, 16, True, ["auto"]],
    ),
    "checkpoint_minutes": ("a number from 0; null for as often as they cost little", [-1, -0.1, "10", True, [1.0]]),
    "target_patterns": ("a list of strings, not empty", [[], (), "q_proj", [1], ["q_proj", None], {}, 5, True]),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (_, values) in BAD.items() for value in values])
def test_bad_value_is_refused_with_the_option_the_value_and_the_rule(name, value):
    found = only_problem_of(TrainingOptions.from_mapping, {name: value})
    assert found.what.startswith(f"{name} is ")
    assert name in found.where
    assert BAD[name][0] in found.rule
    assert f"{name}=" in found.remedy


@pytest.mark.parametrize(("name", "values"), table("options", "good"))
def test_good_values_at_the_edges_are_taken(name, values):
    for value in values:
        assert getattr(TrainingOptions.from_mapping({name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("num_epochs", 5.0, 5),
        ("seed", 0.0, 0),
        ("max_seq_len", 512.0, 512),
        ("warmup_steps", 3.0, 3),
        ("unfreeze_rank_ratio", 1, 1.0),
        ("weight_decay", 0, 0.0),
        ("checkpoint_minutes", 5, 5),
        ("target_patterns", ["q_proj"], ("q_proj",)),
    ],
)
def test_value_comes_as_the_type_of_the_option(name, given, taken):
    value = getattr(TrainingOptions.from_mapping({name: given}), name)
    assert value == taken
    assert type(value) is type(taken)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("num_epoch", "num_epochs"), ("Learning_Rate", "learning_rate"), ("max_sequence_len", "max_seq_len")],
)
def test_unknown_option_is_refused_with_the_nearest_name_and_all_known_ones(name, nearest):
    found = only_problem_of(TrainingOptions.from_mapping, {name: 1})
    assert f"unknown training option {name!r} (did you mean {nearest}?)" == found.what
    assert all(field.name in found.rule for field in dataclasses.fields(TrainingOptions))


def test_unknown_options_and_bad_values_are_named_together():
    found = problems_of(TrainingOptions.from_mapping, {"nproc_per_node": 8, "num_epochs": 0, "zebra": 1})
    text = " ".join(problem.what for problem in found)
    assert len(found) == 3
    assert all(name in text for name in ("nproc_per_node", "num_epochs", "zebra"))


def test_sample_that_cannot_be_computed_in_one_piece_is_refused():
    found = only_problem_of(TrainingOptions, max_seq_len=4096)
    assert "max_tokens_per_gpu is 2048, max_seq_len is 4096" in found.what
    assert "4096" in found.remedy


def test_what_changes_no_result_is_no_part_of_what_determines_it():
    one = TrainingOptions(checkpoint_minutes=1.0, max_seq_len=512)
    other = TrainingOptions(checkpoint_minutes=2.0, max_seq_len=1024)
    assert one.determining(gpus=1) == other.determining(gpus=1)
    assert set(one.determining(gpus=1)) == set(BAD) - {"checkpoint_minutes", "max_seq_len"}
    assert set(one.determining(gpus=2)) == set(BAD) - {"checkpoint_minutes"}
    assert one.as_json() != other.as_json()


@pytest.mark.parametrize(("asked", "device", "decided"), table("options", "formats"))
def test_number_format_is_decided_by_the_device_unless_it_is_asked_for(asked, device, decided):
    options = TrainingOptions(train_dtype=asked, seed=7)
    assert options.on(device) == TrainingOptions(train_dtype=decided, seed=7)


def test_schedulers_are_known_to_transformers():
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, SchedulerType

    common = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
    for name, arguments in SCHEDULERS.items():
        function = TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(name)]
        assert {*inspect.signature(function).parameters} - common == {*arguments}


@pytest.mark.parametrize(("scheduler", "arguments", "said"), table("options", "scheduler_arguments"))
def test_arguments_that_the_scheduler_does_not_take_are_refused(scheduler, arguments, said):
    with pytest.raises(Problems, match=re.escape(said)):
        TrainingOptions(lr_scheduler=scheduler, lr_scheduler_kwargs=arguments)


@pytest.mark.parametrize(("scheduler", "arguments"), table("options", "scheduler_arguments_taken"))
def test_arguments_that_the_scheduler_takes_give_learning_rates(scheduler, arguments):
    from components.training.loop import learning_rates

    rates = learning_rates(TrainingOptions(lr_scheduler=scheduler, lr_scheduler_kwargs=arguments), 20)
    assert len(rates) == 20
    assert rates != learning_rates(TrainingOptions(lr_scheduler=scheduler), 20)


def test_option_that_is_a_parameter_is_refused_among_the_further_ones():
    further = {"num_epochs": 3, "warmup_steps": -1}
    first, second = problems_of(TrainingOptions.from_mapping, {"num_epochs": 5, "seed": 1}, further)
    assert first.remedy == "take it out there, and add --num-epochs 3 (on a cluster: num_epochs=3)"
    assert "warmup_steps" in second.what
    assert TrainingOptions.from_mapping({"seed": 1}, {"warmup_steps": 2}) == TrainingOptions(seed=1, warmup_steps=2)
