"""The CUDA kernels compute what their reference in torch does: compiled as C++ and run on the CPU, thread by thread."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from components.training import weights
from components.training.weights import CompactWeight, Update

ROOT = Path(__file__).parents[2]
SHAPES = [(7, 96), (13, 577), (5, 11), (2, 2048)]

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    file = tmp_path_factory.mktemp("kernels") / "kernels.so"
    kernels = ROOT / "components" / "training" / "kernels.cu"
    # -Bsymbolic: the C library has functions of such names too.
    options = ["-std=c++20", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-pthread", "-Wl,-Bsymbolic"]
    source = ROOT / "tests" / "kernels" / "on_cpu.cpp"
    subprocess.run(["g++", *options, f'-DKERNELS="{kernels}"', source, "-o", file], check=True)
    return ctypes.CDLL(str(file))


def launch(library: ctypes.CDLL, kernel: str, blocks: int, *arguments: Tensor | int) -> None:
    """As weights.launch."""
    passed = [ctypes.c_void_p(value.data_ptr()) if isinstance(value, Tensor) else value for value in arguments]
    getattr(library, f"run_{kernel}")(blocks, weights.THREADS, *passed)


def blocks_of(weight: CompactWeight) -> int:
    return -(-weight.entries // (weights.THREADS * weights.ENTRIES_PER_THREAD))


def trained(shape: tuple[int, int]) -> CompactWeight:
    torch.manual_seed(0)
    weight = CompactWeight("weight", torch.randn(shape) * 0.01)
    update = settings(1)
    weight.step(weight.direction(torch.randn(shape), update), update)
    return weight


def copy(weight: CompactWeight) -> CompactWeight:
    other = CompactWeight("weight", torch.zeros(weight.shape))
    for name, tensor in weight.state().items():
        other.state()[name].copy_(tensor)
    return other


def settings(step: int, weight_decay: float = 0.01) -> Update:
    return Update(
        step=step,
        learning_rate=1e-3,
        gradient_scale=0.7,
        beta1=0.9,
        beta2=0.95,
        eps=1e-8,
        weight_decay=weight_decay,
        seed=3,
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_values(library, shape):
    weight = trained(shape)
    result = torch.full(shape, torch.nan, dtype=torch.bfloat16)

    launch(library, "values", blocks_of(weight), weight.codes, weight.scales, result, weight.entries)

    assert torch.equal(result, weight.values(torch.bfloat16))


@pytest.mark.parametrize("shape", SHAPES)
def test_scaled_values_and_gradients(library, shape):
    weight, first = trained(shape), shape[1] // 3
    scale = torch.rand(shape[0]) + 0.1
    result = torch.full(shape, torch.nan, dtype=torch.bfloat16)
    weight.grad = torch.randn(shape).bfloat16()
    gradient, scale_gradient, expected = weight.grad.clone(), torch.ones(shape[0]), torch.ones(shape[0])

    arguments = (weight.codes, weight.scales, result, weight.entries, scale, shape[1], first)
    launch(library, "scaled_values", blocks_of(weight), *arguments)
    arguments = (weight.codes, weight.scales, gradient, scale, scale_gradient, shape[1], first)
    launch(library, "scale_gradients", shape[0], *arguments)
    left, right = weight.scaled_values(torch.bfloat16, scale, first)
    weight.scale_gradients(scale, first, expected)

    assert torch.equal(result[:, :first], left)
    torch.testing.assert_close(result[:, first:], right, rtol=2**-6, atol=0)  # the reference rounds three times
    assert torch.equal(gradient[:, :first], weight.grad[:, :first])
    torch.testing.assert_close(gradient[:, first:], weight.grad[:, first:], rtol=2**-6, atol=0)
    torch.testing.assert_close(scale_gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_a_step_of_adamw(library, shape, weight_decay):
    ours = trained(shape)
    theirs, update = copy(ours), settings(2, weight_decay)
    numbers = [0.7, 0.9, 0.95, *update.corrections, 1e-8, 1e-3, weight_decay]
    gradient = torch.randn(shape).bfloat16()
    gradient[0] = 0
    direction = gradient.clone()

    arguments = (direction, ours.first, ours.first_scales, ours.second, ours.second_scales, ours.entries)
    launch(
        library, "direction", blocks_of(ours), *arguments, torch.tensor(numbers), update.noise_seed("weight", "moments")
    )
    arguments = (ours.codes, ours.scales, direction, ours.entries)
    launch(library, "step", blocks_of(ours), *arguments, torch.tensor(numbers), update.noise_seed("weight", "value"))
    expected = theirs.direction(gradient, update)
    theirs.step(expected, update)

    torch.testing.assert_close(direction, expected, rtol=2**-7, atol=0)
    for name, tensor in theirs.state().items():
        if tensor.dtype == torch.float32:
            torch.testing.assert_close(ours.state()[name], tensor, rtol=1e-5, atol=0)
        else:  # constants of other precision move a few codes across a border
            assert (ours.state()[name] != tensor).float().mean() < 1e-2
