"""Runs real commands on the null GPU, one after the other in this process, and tells what each said and asked of it.

Whatever is read back from the null GPU is zeros, so that most of a command goes on as if that were what it had
computed. What cannot is replaced here.
"""

import io
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from typing import Any
from unittest.mock import patch

import torch
from inside import answer, arguments, counted, illegal, library
from torch import Tensor

from mixmo_fast.training.step import TrainingStep

# torch's words to whoever has no CUDA toolkit; and a graph of stand-ins for convolutions, which launch nothing.
warnings.filterwarnings("ignore", "CUDA libdevice not found")
warnings.filterwarnings("ignore", "The CUDA Graph is empty")

_PROGRAMS = {"mixmo-fast": "mixmo_fast.cli.app", "benchmarks.training": "benchmarks.training"}
_ALL_OF_IT = 80 << 30


def _all(of: Tensor) -> Tensor:
    """Whether all numbers are finite is asked so, and no kernel has answered: yes."""
    return torch.ones((), dtype=torch.bool)


def _unique(of: Tensor, *how: Any) -> tuple[Tensor, ...]:
    """How many there are decides about shapes, and a kernel would count them: those of zeros."""
    return tuple(part.to(of.device) for part in torch._unique2(of.cpu(), *how))


def _compiled_by_torch(*inputs: Tensor) -> Tensor:
    """In the place of what torch itself compiles when it is called first, by a library that a real driver needs."""
    shape = torch.broadcast_shapes(*(one.shape for one in inputs))
    return torch.empty(shape, dtype=inputs[0].dtype, device=inputs[0].device)


_KERNELS = torch.library.Library("aten", "IMPL")
_KERNELS.impl("all", _all, "CUDA")
_KERNELS.impl("_unique2", _unique, "CUDA")
_KERNELS.impl("erfinv", _compiled_by_torch, "CUDA")
_KERNELS.impl("special_gammaincc", _compiled_by_torch, "CUDA")


def run(
    command: Sequence[str],
    interrupt_after: int | None = None,
    memory: int = _ALL_OF_IT,
    busy: bool = False,
    driver: int = 13000,
    cudnn: bool = False,
) -> dict[str, Any]:
    """One command.

    Args:
        command: One of `_PROGRAMS`, and its arguments.
        interrupt_after: Training steps, after which Ctrl-C is pressed.
        memory: Bytes that the GPU has.
        busy: Whether the GPU, in exclusive mode, serves another process.
        driver: The newest CUDA that the driver knows, as CUDA writes it.
        cudnn: Whether batch-norms may be cuDNN's: there is no stand-in, and only a compiler that relies on cuDNN.

    Returns:
        Its exit code, or the traceback in the place of one; what it wrote; what was counted and refused meanwhile.
    """
    torch.backends.cudnn.enabled = cudnn
    library.null_gpu_limit(memory)
    library.null_gpu_busy(busy)
    library.null_gpu_driver(driver)
    name, *options = command
    take, taken, refused_before = TrainingStep.__call__, 0, len(illegal())
    written, complaints = io.StringIO(), io.StringIO()

    def take_or_stop(step, *batch_and_rate):
        nonlocal taken
        if taken == interrupt_after:
            raise KeyboardInterrupt
        taken += 1
        take(step, *batch_and_rate)

    with (
        patch.object(TrainingStep, "__call__", take_or_stop),
        patch.object(sys, "argv", [name, *options]),
        redirect_stdout(written),
        redirect_stderr(complaints),
        counted() as found,
    ):
        try:
            import_module(_PROGRAMS[name]).main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            code = traceback.format_exc()
    return {
        "code": code,
        "written": written.getvalue(),
        "complaints": complaints.getvalue(),
        "steps": taken,
        "illegal": illegal()[refused_before:],
        **{kind: found[kind] for kind in ("launches", "replays")},
    }


if __name__ == "__main__":
    answer([run(**one) for one in arguments()])
