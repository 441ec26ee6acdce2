"""Weights that are trained, with AdamW's two moments: as float32, or in four bytes an entry that lose no small step.

In bfloat16 most steps of AdamW at a learning rate of 5e-6 are smaller than half the distance to the next number and
round to nothing. `CompactWeight` keeps for blocks of 256 entries a float32 scale, and for each entry

    value           int16    -32767..32767 times scale / 32767: some 45 times finer than bfloat16 at a usual weight
    first moment    8 bits   sign, and a floating-point number of 7 bits (3 of them fraction) down to 2^-16 of the scale
    second moment   8 bits   a floating-point number (3 bits of fraction) down to 2^-32 of the scale

All three are rounded stochastically: what is lost in one step is made up for in others, and no moment can drift. The
second moment's smallest number is not 0: that would divide by nothing. The noise is a hash of seed, step and place: a
resumed training repeats it to the bit. (Block-wise 8-bit moments: Dettmers et al. 2022, arXiv:2110.02861.)

On CUDA the kernels of `kernels.cu` compute what the functions here compute.
"""

import abc
import ctypes
import dataclasses
import functools
import os
import zlib
from pathlib import Path

import torch
from torch import Tensor

from components.models.shapes import MIN_COMPACT

BLOCK = 256  # entries that share a scale
MAX_CODE = 32767
# A float's bits without the last 20 are its exponent and 3 bits of fraction; 1.0 is 1016. Codes count from these down.
FIRST_MOMENT_OFFSET, SECOND_MOMENT_OFFSET = 1016 - 127, 1016 - 255
KERNELS = ("values", "scaled_values", "scale_gradients", "direction", "step")
THREADS = 256
ENTRIES_PER_THREAD = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Update:
    """What all weights share in one optimizer step of AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

    step: int
    """From 1."""
    learning_rate: float
    gradient_scale: float
    """Multiplies the gradients: below 1 when they are clipped."""
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    seed: int
    """Decides the noise of stochastic rounding."""

    @property
    def corrections(self) -> tuple[float, float]:
        """Factors that make up for moments that began at zero."""
        return 1 / (1 - self.beta1**self.step), 1 / (1 - self.beta2**self.step)

    @functools.cached_property
    def on_gpu(self) -> Tensor:
        """The numbers that the kernels read, in their order."""
        numbers = [self.gradient_scale, self.beta1, self.beta2, *self.corrections, self.eps]
        return torch.tensor([*numbers, self.learning_rate, self.weight_decay], dtype=torch.float32, device="cuda")

    def noise_seed(self, name: str, what: str) -> int:
        """31 bits."""
        return zlib.crc32(f"{self.seed}/{self.step}/{name}/{what}".encode()) >> 1


class TrainedWeight(abc.ABC):
    """A weight in training: its value, its gradient and AdamW's moments."""

    name: str
    shape: torch.Size
    grad: Tensor | None = None

    @abc.abstractmethod
    def values(self, dtype: torch.dtype) -> Tensor:
        """The weight as a tensor to compute with; not to be changed."""

    def scaled_values(self, dtype: torch.dtype, scale: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """The columns of a weight [rows, columns] before `first`, and the others times their row's scale [rows]."""
        values = self.values(dtype)
        return values[:, :first], values[:, first:] * scale[:, None].to(dtype)

    def scale_gradients(self, scale: Tensor, first: int, scale_gradient: Tensor) -> None:
        """From the gradient of the scaled weight to those of the weight, in place, and of the scale, added up.

        Args:
            scale, first: of `scaled_values`.
            scale_gradient: [rows], float32.
        """
        assert self.grad is not None
        gradient = self.grad[:, first:]
        scale_gradient += (self.values(torch.float32)[:, first:] * gradient).sum(1)
        gradient *= scale[:, None].to(gradient.dtype)

    @abc.abstractmethod
    def direction(self, gradient: Tensor, update: Update) -> Tensor:
        """Take the gradient into the moments.

        Returns:
            AdamW's direction m / (sqrt(v) + eps); may be the memory of `gradient`.
        """

    @abc.abstractmethod
    def step(self, direction: Tensor, update: Update) -> None:
        """weight -= learning_rate * (direction + weight_decay * weight)"""

    @abc.abstractmethod
    def state(self) -> dict[str, Tensor]:
        """All tensors that make it up, not copied: a checkpoint reads them and writes into them."""


class Float32Weight(TrainedWeight):
    """Value and moments as float32 tensors."""

    def __init__(self, name: str, value: Tensor) -> None:
        """
        Args:
            value: a float32 tensor; it is trained in place.
        """
        assert value.dtype == torch.float32
        self.name, self.shape, self.value = name, value.shape, value
        self.first, self.second = torch.zeros_like(value), torch.zeros_like(value)

    def values(self, dtype: torch.dtype) -> Tensor:
        return self.value.to(dtype)

    def direction(self, gradient: Tensor, update: Update) -> Tensor:
        dtype, gradient = gradient.dtype, gradient.float().mul_(update.gradient_scale)
        first_correction, second_correction = update.corrections
        self.first.lerp_(gradient, 1 - update.beta1)
        self.second.mul_(update.beta2).addcmul_(gradient, gradient, value=1 - update.beta2)
        scale = torch.sqrt(self.second).mul_(second_correction**0.5).add_(update.eps)
        return torch.div(self.first, scale, out=gradient).mul_(first_correction).to(dtype)

    def step(self, direction: Tensor, update: Update) -> None:
        if update.weight_decay:
            self.value.mul_(1 - update.learning_rate * update.weight_decay)
        self.value.sub_(direction, alpha=update.learning_rate)

    def state(self) -> dict[str, Tensor]:
        return {"value": self.value, "first": self.first, "second": self.second}


class CompactWeight(TrainedWeight):
    """Value and moments as codes with scales; see the module's text."""

    def __init__(self, name: str, value: Tensor) -> None:
        self.name, self.shape, self.entries = name, value.shape, value.numel()
        blocks = -(-self.entries // BLOCK)
        padded = value.new_zeros(blocks * BLOCK, dtype=torch.float32)
        padded[: self.entries] = value.detach().reshape(-1)
        padded = padded.view(blocks, BLOCK)
        self.scales = padded.abs().amax(1)
        self.codes = torch.round(padded * _inverse(self.scales)[:, None] * MAX_CODE).to(torch.int16)
        self.first = torch.zeros_like(self.codes, dtype=torch.uint8)
        self.second = torch.zeros_like(self.codes, dtype=torch.uint8)
        self.first_scales, self.second_scales = torch.zeros_like(self.scales), torch.zeros_like(self.scales)

    def values(self, dtype: torch.dtype) -> Tensor:
        if self.codes.is_cuda and dtype == torch.bfloat16:
            values = torch.empty(self.shape, dtype=dtype, device=self.codes.device)
            launch("values", _blocks(self.entries), self.codes, self.scales, values, self.entries)
            return values
        values = self.codes * (self.scales / MAX_CODE)[:, None]
        return values.view(-1)[: self.entries].view(self.shape).to(dtype)

    def scaled_values(self, dtype: torch.dtype, scale: Tensor, first: int) -> tuple[Tensor, Tensor]:
        if not self.codes.is_cuda or dtype != torch.bfloat16:
            return super().scaled_values(dtype, scale, first)
        values = torch.empty(self.shape, dtype=dtype, device=self.codes.device)
        arguments = (self.codes, self.scales, values, self.entries, scale, self.shape[1], first)
        launch("scaled_values", _blocks(self.entries), *arguments)
        return values[:, :first], values[:, first:]

    def scale_gradients(self, scale: Tensor, first: int, scale_gradient: Tensor) -> None:
        if self.grad is None or not self.codes.is_cuda or self.grad.dtype != torch.bfloat16:
            return super().scale_gradients(scale, first, scale_gradient)
        arguments = (self.codes, self.scales, self.grad, scale, scale_gradient, self.shape[1], first)
        launch("scale_gradients", self.shape[0], *arguments)

    def direction(self, gradient: Tensor, update: Update) -> Tensor:
        seed = update.noise_seed(self.name, "moments")
        if self.codes.is_cuda and gradient.dtype == torch.bfloat16:
            moments = (self.first, self.first_scales, self.second, self.second_scales)
            launch("direction", _blocks(self.entries), gradient, *moments, self.entries, update.on_gpu, seed)
            return gradient
        first_correction, second_correction = update.corrections
        padded = gradient.new_zeros(self.codes.numel(), dtype=torch.float32)
        padded[: self.entries] = gradient.reshape(-1)
        padded = padded.view_as(self.codes) * update.gradient_scale
        first = decode_first(self.first) * self.first_scales[:, None]
        second = decode_second(self.second) * self.second_scales[:, None]
        first = first * update.beta1 + padded * (1 - update.beta1)
        second = second * update.beta2 + padded * padded * (1 - update.beta2)
        direction = first * first_correction / (torch.sqrt(second * second_correction) + update.eps)
        noise = random_bits(seed, self.codes.numel(), self.codes.device).view_as(self.codes)
        self.first_scales, self.second_scales = first.abs().amax(1), second.amax(1)
        self.first = encode_first(first * _inverse(self.first_scales)[:, None], noise & 0xFFFF)
        self.second = encode_second(second * _inverse(self.second_scales)[:, None], noise >> 16)
        return direction.view(-1)[: self.entries].view(self.shape).to(gradient.dtype)

    def step(self, direction: Tensor, update: Update) -> None:
        seed = update.noise_seed(self.name, "value")
        if self.codes.is_cuda and direction.dtype == torch.bfloat16:
            launch("step", _blocks(self.entries), self.codes, self.scales, direction, self.entries, update.on_gpu, seed)
            return
        padded = direction.new_zeros(self.codes.numel(), dtype=torch.float32)
        padded[: self.entries] = direction.reshape(-1)
        padded = padded.view_as(self.codes)
        value = self.codes * (self.scales / MAX_CODE)[:, None]
        moved = value - update.learning_rate * (padded + update.weight_decay * value)
        touched = (moved != value).any(1)  # a block that did not move keeps its bits
        scales = torch.where(touched, moved.abs().amax(1), self.scales)
        noise = random_bits(seed, self.codes.numel(), self.codes.device).view_as(self.codes)
        codes = torch.floor(moved * _inverse(scales)[:, None] * MAX_CODE + (noise >> 9) * 2.0**-23)
        codes = codes.clamp_(-MAX_CODE, MAX_CODE).to(torch.int16)
        self.codes = torch.where(touched[:, None], codes, self.codes)
        self.scales = scales

    def state(self) -> dict[str, Tensor]:
        return {
            "codes": self.codes,
            "scales": self.scales,
            "first": self.first,
            "first_scales": self.first_scales,
            "second": self.second,
            "second_scales": self.second_scales,
        }


def trained_weight(name: str, value: Tensor, dtype: torch.dtype) -> TrainedWeight:
    """The weight in the form that fits a training which computes in `dtype`.

    Args:
        value: float32; a float32 training changes it in place.
    """
    if dtype == torch.float32 or value.numel() < MIN_COMPACT:
        return Float32Weight(name, value)
    return CompactWeight(name, value)


def launch(kernel: str, blocks: int, *arguments: Tensor | int) -> None:
    """Run a kernel of `kernels.cu` in so many blocks of threads, on torch's current stream.

    By the driver itself: torch's own call of a compiled kernel takes several times as long, and an 8B model makes
    1,500 of them in a step.
    """
    values = [
        ctypes.c_void_p(argument.data_ptr()) if isinstance(argument, Tensor) else ctypes.c_int(argument)
        for argument in arguments
    ]
    pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
    stream = ctypes.c_void_p(torch._C._cuda_getCurrentRawStream(torch.cuda.current_device()))
    driver, functions = kernels()
    code = driver.cuLaunchKernel(functions[kernel], blocks, 1, 1, THREADS, 1, 1, 0, stream, pointers, None)
    assert code == 0, f"CUDA error {code} in kernel {kernel}"


@functools.cache
def kernels() -> tuple[ctypes.CDLL, dict[str, ctypes.c_void_p]]:
    """The CUDA driver, and the kernels by name, compiled by the NVRTC that torch brings: no compiler is needed."""
    os.environ.setdefault("CUDA_HOME", "/usr/local/cuda")  # torch asks for headers, which the kernels do without
    source = Path(__file__).with_name("kernels.cu").read_text(encoding="utf-8")
    functions = {name: torch.cuda._compile_kernel(source, name).func for name in KERNELS}
    return ctypes.CDLL("libcuda.so.1"), functions


def random_bits(seed: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """`count` numbers of 32 bits in int64: a hash of seed and place (lowbias32 by Chris Wellons)."""
    bits = (torch.arange(count, device=device) * 0x9E3779B9 + seed) & 0xFFFFFFFF
    bits = ((bits ^ (bits >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    bits = ((bits ^ (bits >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return bits ^ (bits >> 16)


def decode_first(codes: Tensor) -> Tensor:
    """The numbers from -1 to 1 that first moments' codes stand for."""
    magnitude = codes.to(torch.int32) & 127
    value = ((magnitude + FIRST_MOMENT_OFFSET) << 20).view(torch.float32)
    return torch.where(magnitude == 0, 0.0, torch.where(codes > 127, -value, value))


def encode_first(value: Tensor, noise: Tensor) -> Tensor:
    """Codes of numbers from -1 to 1, rounded up or down as 16 bits of noise decide."""
    magnitude = value.abs()
    smallest = 2.0**-16 * 1.25
    codes = ((magnitude.view(torch.int32) + (noise.to(torch.int32) << 4)) >> 20) - FIRST_MOMENT_OFFSET
    below = (magnitude / smallest * 65536 > noise).to(torch.int32)
    codes = torch.where(magnitude < smallest, below, codes)
    return (codes | torch.where(value < 0, 128, 0)).to(torch.uint8)


def decode_second(codes: Tensor) -> Tensor:
    """The numbers above 0, up to 1, that second moments' codes stand for."""
    return ((codes.to(torch.int32) + SECOND_MOMENT_OFFSET) << 20).view(torch.float32)


def encode_second(value: Tensor, noise: Tensor) -> Tensor:
    """Codes of numbers from 0 to 1, rounded up or down as 16 bits of noise decide; the smallest code is not 0."""
    codes = ((value.view(torch.int32) + (noise.to(torch.int32) << 4)) >> 20) - SECOND_MOMENT_OFFSET
    return codes.clamp_min(0).to(torch.uint8)


def _blocks(entries: int) -> int:
    return -(-entries // (THREADS * ENTRIES_PER_THREAD))


def _inverse(scales: Tensor) -> Tensor:
    return torch.where(scales > 0, 1 / scales, 0.0)
