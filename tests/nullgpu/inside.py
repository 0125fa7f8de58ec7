"""For programs that run on the null GPU: what it counted, and convolutions that have shapes and no numbers."""

import ctypes
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

library = ctypes.CDLL("libcuda.so.1")
library.null_gpu_count.restype = ctypes.c_long
library.null_gpu_illegal.restype = ctypes.c_char_p
library.null_gpu_limit.argtypes = [ctypes.c_size_t]

COUNTERS = ("launches", "captured", "copies", "replays", "allocations", "waits", "illegal")

CONVOLUTIONS: list[dict[str, Any]] = []
"""Each call since the last `clear`: which pass, and the layout of each tensor it read."""


def counts() -> dict[str, int]:
    """What has been counted since the process began; `captured` of the last capture."""
    return {name: library.null_gpu_count(number) for number, name in enumerate(COUNTERS)}


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """What a block of code adds to each counter, known at its end."""
    before, found = counts(), {}
    yield found
    found |= {name: value - before[name] for name, value in counts().items()}


def illegal() -> list[str]:
    """The calls that CUDA would have refused during a capture."""
    return [library.null_gpu_illegal(number).decode() for number in range(counts()["illegal"])]


def answer(result: Any) -> None:
    """Hands the result to the test that started this program."""
    print()
    print(json.dumps(result))


def arguments() -> list[Any]:
    """What the test gave this program."""
    return json.loads(sys.argv[1])


def _layout(tensor: Tensor) -> str:
    """`channels_last` where channels are innermost, as in one member's part of the images, too; else the strides."""
    if tensor.stride(1) == 1:
        return "channels_last"
    return f"strides {tensor.stride()} of {tuple(tensor.shape)}"


def _like(x: Tensor, weight: Tensor) -> torch.memory_format:
    """The layout that cuDNN's result has."""
    last = torch.channels_last
    # By strides: a weight of 1x1 is contiguous in both layouts.
    return last if last in (suggest_memory_format(x), suggest_memory_format(weight)) else torch.contiguous_format


def _convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
    CONVOLUTIONS.append({"pass": "forward", "layouts": [_layout(x), _layout(weight)], "shape": list(weight.shape)})
    sizes = zip(x.shape[2:], weight.shape[2:], stride, padding, strict=True)
    sides = [(side + 2 * pad - kernel) // step + 1 for side, kernel, step, pad in sizes]
    shape = (len(x), len(weight), *sides)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_like(x, weight))


def _convolution_backward(
    gradient, x, weight, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, mask
):
    layouts = [_layout(tensor) for tensor in (gradient, x, weight)]
    CONVOLUTIONS.append({"pass": "backward", "layouts": layouts, "shape": list(weight.shape)})
    layout = _like(x, weight)
    wanted = zip((x, weight), mask[:2], strict=True)
    return (*(torch.empty_like(of, memory_format=layout) if is_wanted else None for of, is_wanted in wanted), None)


_KERNELS = torch.library.Library("aten", "IMPL")
_KERNELS.impl("convolution", _convolution, "CUDA")
_KERNELS.impl("convolution_backward", _convolution_backward, "CUDA")
