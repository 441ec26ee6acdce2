"""The GPU that a run was planned for is asked for before anything is loaded. With a GPU: benchmarks, and by hand."""

from typing import Any

import pytest
import torch

from components.shared import gpu
from components.shared.gpu import check_gpu
from components.shared.problems import Problems
from tests.tables import table

PLAN = {"gpus": 1, "gpu_memory_gib": 44.0, "gpu_product": "NVIDIA-L40S"}


def test_plan_for_the_cpu_asks_for_no_gpu():
    check_gpu(**{**PLAN, "gpu_memory_gib": 0.0}, needed_gib=36.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_plan_for_a_gpu_never_trains_on_the_cpu():
    with pytest.raises(Problems, match="no usable GPU in this pod"):
        check_gpu(**PLAN, needed_gib=36.0)


@pytest.mark.parametrize(("label", "driver"), table("gpu", "labels"))
def test_label_and_driver_name_the_same_gpu(label, driver):
    assert gpu._product(label) == gpu._product(driver)


@pytest.mark.parametrize("driver", ["NVIDIA L40", "NVIDIA L4", "NVIDIA A40", "Tesla T4"])
def test_another_gpu_has_another_name(driver):
    assert gpu._product(driver) != gpu._product("NVIDIA-L40S")


@pytest.mark.parametrize(("names", "free_gib", "gpus", "found"), table("gpu", "gpus"))
def test_everything_wrong_with_the_gpu_is_said_at_once(monkeypatch, names, free_gib, gpus, found):
    """What torch says of the GPU is the test's here; the same was seen on a real one."""
    says: dict[str, Any] = {
        "device_count": lambda: len(names),
        "get_device_name": lambda number: names[number],
        "mem_get_info": lambda _: (int(free_gib * 2**30), int(44.4 * 2**30)),
    }
    for name, value in says.items():
        monkeypatch.setattr(torch.cuda, name, value)

    said: list[str] = []
    try:
        check_gpu(**{**PLAN, "gpus": gpus}, needed_gib=36.0)
    except Problems as error:
        said = [problem.what for problem in error.problems]

    assert said == found
