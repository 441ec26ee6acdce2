import dataclasses
import inspect
import math
import re

import pytest

from components.run.training_options import LORA, METHODS, OSFT, SCHEDULERS, SFT, TrainingOptions
from components.shared.options import declared
from components.shared.problems import Problems
from components.shared.storage import sha256_of_json
from tests.fast.conftest import only_problem_of, problems_of

FROM_ONE = "an integer from 1"
FROM_16 = "an integer from 16"
FROM_ZERO = "an integer from 0"
BETA = "a number from 0 and below 1"
NO_NUMBERS = [None, "1", "", True, False, math.nan, math.inf, -math.inf, [1], {}]

PATTERNS = ("a list of strings, not empty", [[], (), "q_proj", [1], ["q_proj", None], {}, 5, True])
NO_BOOLEANS = [None, 0, 1, "true", "", [True], {}]

BAD = {
    "method": ("one of osft, lora_sft, sft", ["", "OSFT", "lora", "full", None, 1, True, ["sft"]]),
    "unfreeze_rank_ratio": ("a number above 0 and up to 1", [0, 0.0, -0.25, 1.01, 2, *NO_NUMBERS]),
    "num_epochs": (FROM_ONE, [0, -1, 2.5, 10_001, *NO_NUMBERS]),
    "effective_batch_size": (FROM_ONE, [0, -4, 0.5, 1 << 21, *NO_NUMBERS]),
    "learning_rate": ("a number above 0 and below 1", [0, -5e-6, 1, 1.0, 5, "5e-6", *NO_NUMBERS]),
    "max_seq_len": (FROM_16, [0, 15, -1024, 1024.5, *NO_NUMBERS]),
    "max_tokens_per_gpu": (FROM_16, [0, 15, 2048.5, *NO_NUMBERS]),
    "seed": (FROM_ZERO, [-1, 0.5, 1 << 63, *NO_NUMBERS]),
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
    "checkpoint_minutes": (
        "a number from 0 to 1e+06; null for as often as they cost little",
        [-1, -0.1, "10", True, [1.0], 2e6],
    ),
    "target_patterns": PATTERNS,
    "train_unfactored": ("true or false", NO_BOOLEANS),
    "lora_r": (FROM_ONE, [0, -1, 2.5, *NO_NUMBERS]),
    "lora_alpha": (FROM_ONE, [0, -1, 2.5, *NO_NUMBERS]),
    "lora_dropout": (BETA, [-0.1, 1, 1.0, *NO_NUMBERS]),
    "target_modules": PATTERNS,
    "control_tokens": ("one of text, drop", ["", "keep", True, None]),
    "use_rslora": ("true or false", NO_BOOLEANS),
    "lora_protect": ("true or false", NO_BOOLEANS),
}


def test_table_of_bad_values_covers_every_option():
    assert set(BAD) == {field.name for field in dataclasses.fields(TrainingOptions)}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (_, values) in BAD.items() for value in values])
def test_bad_value_is_refused_with_the_option_the_value_and_the_rule(name, value):
    found = only_problem_of(TrainingOptions.from_mapping, {name: value})
    assert found.what.startswith(f"{name} is ")
    assert name in found.where
    assert BAD[name][0] in found.rule
    assert f"{name}=" in found.remedy


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("unfreeze_rank_ratio", [1e-6, 0.5, 1.0]),
        ("num_epochs", [1, 1000]),
        ("effective_batch_size", [1, 512]),
        ("learning_rate", [1e-9, 0.99]),
        ("max_seq_len", [16, 2048]),
        ("max_tokens_per_gpu", [1024, 100_000]),
        ("seed", [0, 2**31]),
        ("lr_scheduler", list(SCHEDULERS)),
        ("lr_scheduler_kwargs", [{}, {"num_cycles": 2}]),
        ("warmup_steps", [0, 10]),
        ("beta1", [0.0, 0.999]),
        ("beta2", [0.0, 0.999]),
        ("eps", [1e-12, 1.0]),
        ("weight_decay", [0.0, 0.1, 2.0]),
        ("train_dtype", ["auto", "bfloat16", "float32"]),
        ("checkpoint_minutes", [0.0, 0.5, 1e6, None]),
        ("target_patterns", [None, ("q_proj",), ("q_proj", "k_proj")]),
        ("method", list(METHODS)),
    ],
)
def test_good_values_at_the_edges_are_taken(name, values):
    for value in values:
        assert getattr(TrainingOptions.from_mapping({name: value}), name) == value


def test_defaults_are_those_that_the_project_promises():
    options = TrainingOptions()
    assert options.unfreeze_rank_ratio == 0.25
    assert options.num_epochs == 5
    assert options.effective_batch_size == 4
    assert options.max_seq_len == 1024
    assert options.max_tokens_per_gpu == 2048
    assert options.learning_rate == 5e-6
    assert options.train_dtype == "auto"
    assert options.checkpoint_minutes is None
    assert TrainingOptions.from_mapping({}) == options


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


def test_all_bad_values_are_named_at_once():
    bad = {"num_epochs": 2.5, "learning_rate": 5, "seed": True, "beta1": 1, "lr_scheduler": "cosin"}
    found = problems_of(TrainingOptions.from_mapping, bad)
    assert {problem.what.split()[0] for problem in found} == set(bad)


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


def test_equal_options_have_equal_json():
    one = TrainingOptions.from_mapping({"num_epochs": 3.0, "unfreeze_rank_ratio": 1})
    assert one.as_json() == TrainingOptions(num_epochs=3, unfreeze_rank_ratio=1.0).as_json()
    assert one.as_json() != TrainingOptions().as_json()
    assert set(one.as_json()) == set(BAD)


FURTHER = {name: found.only_for for name, found in declared(TrainingOptions).items() if found.only_for}


def names_of(method):
    names = {name for name in BAD if method in FURTHER.get(name, METHODS)} - {"method"}
    return names - {"unfreeze_rank_ratio"} if method == LORA else names  # unless adapters are protected


UNNAMED = ("checkpoint_minutes", "train_unfactored", "control_tokens")


def test_what_changes_no_result_is_no_part_of_what_determines_it():
    one = TrainingOptions(checkpoint_minutes=1.0, max_seq_len=512)
    other = TrainingOptions(checkpoint_minutes=2.0, max_seq_len=1024)
    assert one.determining(gpus=1) == other.determining(gpus=1)
    assert set(one.determining(gpus=1)) == names_of(OSFT) - {*UNNAMED, "max_seq_len"}
    assert set(one.determining(gpus=2)) == names_of(OSFT) - {*UNNAMED}
    assert one.as_json() != other.as_json()


def test_what_determines_osft_is_what_it_was_before_there_were_other_methods():
    """Else everybody's finished trainings would be trained once more."""
    some = TrainingOptions(
        unfreeze_rank_ratio=0.5,
        target_patterns=("q_proj",),
        train_dtype="bfloat16",
        lr_scheduler_kwargs={"num_cycles": 2},
    )
    digests = [sha256_of_json(one.determining(gpus))[:16] for one in (TrainingOptions(), some) for gpus in (1, 2)]
    assert digests == ["121e5118ce9b96c1", "be891a568da32535", "19c11666517d8280", "6ccf805fcf93b55a"]


def test_freezing_what_is_not_decomposed_is_another_training_and_needs_something_to_train():
    frozen = TrainingOptions(train_unfactored=False)
    assert frozen.determining(1) == TrainingOptions().determining(1) | {"train_unfactored": False}
    found = only_problem_of(TrainingOptions, train_unfactored=False, unfreeze_rank_ratio=1.0)
    assert "nothing would be trained" in found.rule


@pytest.mark.parametrize("method", [LORA, SFT])
def test_a_method_is_given_its_own_options_and_its_name_is_part_of_what_determines_it(method):
    options = TrainingOptions(method=method)
    assert set(options.arguments()) == names_of(method)
    unnamed = {"checkpoint_minutes", "max_seq_len", "control_tokens"}
    assert set(options.determining(gpus=1)) == names_of(method) - unnamed | {"method"}
    assert TrainingOptions.from_mapping(options.as_json()) == options


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        (method, name, value)
        for name, value in {
            "unfreeze_rank_ratio": 0.5,
            "target_patterns": ("q_proj",),
            "train_unfactored": False,
            "lora_r": 8,
            "lora_alpha": 8,
            "lora_dropout": 0.1,
            "target_modules": ("q_proj",),
            "use_rslora": True,
            "lora_protect": True,
        }.items()
        for method in METHODS
        if method not in FURTHER[name]
    ],
)
def test_an_option_of_another_method_is_refused_with_the_one_that_it_belongs_to(method, name, value):
    found = only_problem_of(TrainingOptions.from_mapping, {"method": method, name: value})
    assert found.what.startswith(f"{name} is ")
    assert f"method is {method}" in found.what
    assert found.rule.startswith(f"{name} belongs to the method {FURTHER[name][0]}")
    assert f"--method {FURTHER[name][0]}" in found.remedy
    assert TrainingOptions.from_mapping({"method": FURTHER[name][0], name: value})


def test_adapters_have_osfts_ratio_when_they_are_protected():
    found = only_problem_of(TrainingOptions, method=LORA, unfreeze_rank_ratio=0.5)
    assert found.rule == "unfreeze_rank_ratio belongs to the method osft or lora_sft, there with lora_protect"
    options = TrainingOptions(method=LORA, unfreeze_rank_ratio=0.5, lora_protect=True)
    assert options.arguments()["unfreeze_rank_ratio"] == options.determining(1)["unfreeze_rank_ratio"] == 0.5


def test_adapters_begin_with_the_defaults_of_training_hub():
    from training_hub.algorithms.peft_extender import apply_lora_defaults

    theirs, options = apply_lora_defaults({}), TrainingOptions(method=LORA)
    for name in names_of(LORA) - names_of(SFT) - {"lora_protect"}:
        assert getattr(options, name) == theirs[name], name


@pytest.mark.parametrize(
    ("asked", "device", "decided"),
    [
        ("auto", "cuda", "bfloat16"),
        ("auto", "cpu", "float32"),
        ("float32", "cuda", "float32"),
        ("bfloat16", "cpu", "bfloat16"),
    ],
)
def test_number_format_is_decided_by_the_device_unless_it_is_asked_for(asked, device, decided):
    options = TrainingOptions(train_dtype=asked, seed=7)
    assert options.on(device) == TrainingOptions(train_dtype=decided, seed=7)


def test_schedulers_are_known_to_transformers():
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, SchedulerType

    common = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
    for name, arguments in SCHEDULERS.items():
        function = TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(name)]
        assert {*inspect.signature(function).parameters} - common == {*arguments}


@pytest.mark.parametrize(
    ("scheduler", "arguments", "said"),
    [
        ("cosine", {"foo": 1}, "the scheduler cosine knows num_cycles"),
        ("cosine", {"num_cycle": 1}, "did you mean num_cycles?"),
        ("constant", {"foo": 1}, "the scheduler constant knows no arguments"),
        ("linear", {"last_epoch": 3}, "the scheduler linear knows no arguments"),
        ("cosine", {"num_cycles": "2"}, "num_cycles is '2'"),
        ("cosine", {"num_cycles": 0}, "num_cycles is '0'"),
        ("polynomial", {"lr_end": 0.1}, "the learning rate"),
        ("polynomial", {"lr_end": -1e-7}, "from 0"),
        ("inverse_sqrt", {"timescale": None}, "timescale is 'None'"),
    ],
)
def test_arguments_that_the_scheduler_does_not_take_are_refused(scheduler, arguments, said):
    with pytest.raises(Problems, match=re.escape(said)):
        TrainingOptions(lr_scheduler=scheduler, lr_scheduler_kwargs=arguments)


@pytest.mark.parametrize(
    ("scheduler", "arguments"),
    [
        ("cosine", {"num_cycles": 1.5}),
        ("cosine_with_restarts", {"num_cycles": 2.0}),  # KFP makes a float of it
        ("polynomial", {"lr_end": 0, "power": 2.0}),
        ("inverse_sqrt", {"timescale": 100.0}),
    ],
)
def test_arguments_that_the_scheduler_takes_give_learning_rates(scheduler, arguments):
    from components.training.loop import learning_rates

    rates = learning_rates(TrainingOptions(lr_scheduler=scheduler, lr_scheduler_kwargs=arguments), 20)
    assert len(rates) == 20
    assert rates != learning_rates(TrainingOptions(lr_scheduler=scheduler), 20)


def test_option_that_is_a_parameter_is_refused_among_the_further_ones():
    found = problems_of(
        TrainingOptions.from_mapping, {"num_epochs": 5, "seed": 1}, {"num_epochs": 3, "warmup_steps": -1}
    )
    assert [problem.remedy for problem in found[:1]] == [
        "take it out there, and add --num-epochs 3 (on a cluster: num_epochs=3)"
    ]
    assert "warmup_steps" in found[1].what
    assert TrainingOptions.from_mapping({"seed": 1}, {"warmup_steps": 2}) == TrainingOptions(seed=1, warmup_steps=2)
