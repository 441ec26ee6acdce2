"""The settings of a sweep: all combinations, and every mistake in them before anything starts."""

from typing import Any

import pytest
import yaml

from components.run.sweep import MAX_SETTINGS, differing, read_settings
from components.run.training_options import TrainingOptions
from components.shared.problems import Problems
from pipeline.cluster.compiled_file import read_pipeline
from pipeline.compile import COMMITTED, SWEEP
from pipeline.parameters import read_parameters
from tests.tables import table


@pytest.mark.parametrize(("settings", "names", "options"), table("sweep", "settings"))
def test_settings_are_all_combinations_of_their_values(settings, names, options):
    read = read_settings(settings, {}, {})

    assert [setting.name for setting in read] == names
    assert [setting.options for setting in read] == options


@pytest.mark.parametrize(("settings", "said"), table("sweep", "mistakes"))
def test_all_mistakes_are_said_at_once(settings, said):
    with pytest.raises(Problems) as error:
        read_settings(settings, {"learning_rate": 5e-6}, {"warmup_steps": 3})

    assert len(error.value.problems) == len(said)
    for one in said:
        assert one in str(error.value)


def test_there_is_a_limit_that_a_product_cannot_pass():
    options: dict[str, Any] = {name: list(range(1, 1000)) for name in ("num_epochs", "seed", "warmup_steps")}

    with pytest.raises(Problems, match=f"more than {MAX_SETTINGS} settings"):
        read_settings([{"name": "all", **options}], {}, {})


def test_what_a_setting_changes_goes_over_what_all_share():
    (setting,) = read_settings([{"name": "a", "num_epochs": 3, "warmup_steps": 1}], {}, {})

    shared = {"num_epochs": 5, "seed": 7}
    assert setting.over(shared, {"beta1": 0.8}) == ({"num_epochs": 3, "seed": 7}, {"beta1": 0.8, "warmup_steps": 1})


def test_options_that_differ_are_those_of_the_methods_that_have_them():
    given = {"one": {}, "two": {"num_epochs": 3}, "lora": {"method": "lora_sft", "lora_r": 8}}

    assert differing({name: TrainingOptions.from_mapping(one) for name, one in given.items()}) == {
        "one": {"method": "osft", "num_epochs": 5},
        "two": {"method": "osft", "num_epochs": 3},
        "lora": {"method": "lora_sft", "num_epochs": 5, "lora_r": 8},
    }


def test_the_settings_are_checked_before_a_sweep_is_sent(tmp_path):
    given = {
        "data": "/mnt/osft/qa.csv",
        "questions": "/mnt/osft/gaps.csv",
        "settings": [{"name": "a", "num_epochs": 0}],
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")

    with pytest.raises(Problems, match="setting a: num_epochs is '0'"):
        read_parameters(read_pipeline(COMMITTED[SWEEP]), [], tmp_path / "sweep.yaml")
