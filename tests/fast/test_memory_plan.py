"""The memory that a plan counts is near what was measured, and what it names as fitting fits."""

import dataclasses
import re
import subprocess
import sys
from typing import Any

import pytest

from benchmarks import common
from benchmarks.tables import measured_memory
from components.plan_training.core import volume_bytes, what_fits
from components.run.training_options import TrainingOptions
from components.shared.workspace import GIB
from components.training.memory import plan_memory
from tests.tables import table

LLAMA_8B = table("memory_plan", "llama_8b")


def test_the_plan_is_near_what_was_measured_on_a_gpu():
    for shape, options, measured in measured_memory():
        planned = plan_memory(common.config(shape).to_dict(), options)

        assert 0.97 * measured < planned.total_gib < 1.08 * measured, (shape, options)
        assert measured < planned.needed_gib


def test_matrices_that_no_pattern_names_are_trained_whole_and_take_more_memory():
    default = plan_memory(LLAMA_8B, TrainingOptions(train_dtype="bfloat16"))
    some = plan_memory(LLAMA_8B, TrainingOptions(train_dtype="bfloat16", target_patterns=("q_proj",)))

    assert some.needed_gib > 1.4 * default.needed_gib


def test_volume_must_hold_two_checkpoints_or_one_beside_the_result():
    options = TrainingOptions(train_dtype="bfloat16")
    large = plan_memory(common.config("granite-3.2-8b").to_dict(), options)
    checkpoint = large.trained_gib * GIB

    assert volume_bytes(16_340_000_000, large) == pytest.approx(16.34e9 + checkpoint, rel=1e-6)
    assert volume_bytes(16_340_000_000, large) == pytest.approx(28.7e9, rel=0.03)
    assert volume_bytes(1000, large) == pytest.approx(2 * checkpoint, rel=1e-6)


def test_memory_is_planned_without_loading_torch():
    code = "import sys, components.training.memory; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("share", [0.99, 0.9, 0.8, 0.5, 0.1])
@pytest.mark.parametrize("options", [{}, {"unfreeze_rank_ratio": 0.9}, {"max_seq_len": 5000}])
@pytest.mark.parametrize("gpus", [1, 4])
def test_what_is_named_as_fitting_fits_and_the_next_larger_does_not(share, options, gpus):
    asked = TrainingOptions(train_dtype="bfloat16", max_tokens_per_gpu=32768, **options)
    gpu = share * plan_memory(LLAMA_8B, asked, gpus).needed_gib

    def fits(**changes: Any) -> bool:
        return plan_memory(LLAMA_8B, dataclasses.replace(asked, **changes), gpus).needed_gib <= gpu

    said = what_fits(LLAMA_8B, asked, gpus, gpu)

    tokens = re.search(r"max_tokens_per_gpu=(\d+)\) or less", said)
    ratio = re.search(r"unfreeze_rank_ratio=([\d.]+)\) or less", said)
    assert "use a smaller model or a larger GPU" in said
    if tokens is None:
        assert not fits(max_tokens_per_gpu=asked.max_seq_len)
    else:
        assert fits(max_tokens_per_gpu=int(tokens[1]))
        assert not fits(max_tokens_per_gpu=(int(tokens[1]) // 256 + 1) * 256)
    if ratio is None:
        assert not fits(unfreeze_rank_ratio=0.01)
    else:
        assert float(ratio[1]) < asked.unfreeze_rank_ratio
        assert fits(unfreeze_rank_ratio=float(ratio[1]))
        assert not fits(unfreeze_rank_ratio=round(float(ratio[1]) + 0.01, 2))
    assert share < 0.9 or tokens is not None
