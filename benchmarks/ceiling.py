"""What the machine allows at most: its fastest matrix product, and a network of nothing but its convolutions.

The ceiling is a step whose batch-norms, activations, sums, loss and update cost nothing: each convolution is timed by
itself, forward and backward, in the better of the two memory formats. Casts of weights are left out, and what a cache
keeps from one layer to the next.

Shapes: N rows, M members, C channels, H W pixels.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.stopwatch import Timed, Timing, median_seconds
from mixmo_fast.networks.flop import FLOP_PER_MAC
from mixmo_fast.networks.multi import IMAGE_CHANNELS, MixMo
from mixmo_fast.training.precision import Precision

# Sides of the square matrices: large enough for full speed, small enough for the machine.
_MATRIX_SIDES = {"cuda": (8192, 4096), "cpu": (2048,)}


@dataclass(frozen=True)
class Convolution:
    """A layer's work in one step.

    Attributes:
        input: (N, C, H, W) of what it reads, padding by other layers included.
        weight: (C_out, C, height, width).
        stride: Vertical and horizontal.
        padding: Vertical and horizontal.
        input_gradient: Whether the step needs the gradient of its input; it does not for images.
    """

    input: tuple[int, ...]
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    input_gradient: bool

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all its passes: forward, gradient of the weight, and of the input if needed."""
        sizes = zip(self.input[2:], self.weight[2:], self.stride, self.padding, strict=True)
        pixels = prod((side + 2 * padding - kernel) // stride + 1 for side, kernel, stride, padding in sizes)
        return self.input[0] * pixels * prod(self.weight) * (3 if self.input_gradient else 2)


def convolutions(network: MixMo, rows: int, height: int, width: int) -> Counter[Convolution]:
    """All convolutions of a training step and how often each occurs.

    Args:
        network: On `meta`, where nothing is computed, or on any other device.
        rows: N of a step.
        height: H of an image, pixels.
        width: W of an image, pixels.
    """
    found: Counter[Convolution] = Counter()

    def record(layer: nn.Conv2d, inputs: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        images = inputs[0]
        shapes = tuple(images.shape), tuple(layer.weight.shape), layer.stride, layer.padding
        found[Convolution(*shapes, images.requires_grad)] += 1

    hooks = [layer.register_forward_hook(record) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    device = next(network.parameters()).device
    stem, network.stem = network.stem, "separate"  # the layers themselves; a grouped stem is one call for all of them
    was_training = network.training
    network.eval()  # no statistics of images that are none
    with torch.enable_grad():
        images = torch.zeros(rows, network.members * IMAGE_CHANNELS, height, width, device=device)
        network(images, torch.zeros(rows, network.members, 1, 1, device=device))
    network.train(was_training)
    network.stem = stem
    for hook in hooks:
        hook.remove()
    return found


def convolution_ceiling(
    layers: Counter[Convolution], rows: int, precision: Precision, device: torch.device, seconds: float
) -> dict[str, Any]:
    """Times each distinct convolution and adds them up.

    Args:
        layers: From `convolutions`.
        rows: N of a step.
        precision: Number format of inputs and weights.
        device: Where.
        seconds: For each of them and each memory format, about.

    Returns:
        `rows_per_second`, `seconds` of a step, `precision`, `convolutions` (how many), and `layers`: shapes, count,
        milliseconds, TFLOP/s and how it was timed of each distinct one.
    """
    precision.switch_tf32()
    listed, total = [], 0.0
    for layer, count in layers.items():
        times = {
            layout: _seconds_of_convolution(layer, precision.dtype, memory_format, device, seconds)
            for layout, memory_format in (("nchw", torch.contiguous_format), ("channels_last", torch.channels_last))
        }
        best, timed = min(times.values())
        total += count * best
        listed.append(
            {
                **vars(layer),
                "count": count,
                "ms": 1e3 * best,
                **{f"ms_{layout}": 1e3 * time.seconds for layout, time in times.items()},
                "tflops": FLOP_PER_MAC * layer.macs / best / 1e12,
                "timed": timed,
            }
        )
    return {
        "rows_per_second": rows / total,
        "seconds": total,
        "precision": precision.name,
        "convolutions": layers.total(),
        "layers": listed,
    }


def _seconds_of_convolution(
    layer: Convolution, dtype: torch.dtype, memory_format: torch.memory_format, device: torch.device, seconds: float
) -> Timing:
    """Forward and backward."""

    def tensor(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, device=device).to(dtype, memory_format=memory_format)

    images = tensor(layer.input).requires_grad_(layer.input_gradient)
    weight = tensor(layer.weight).requires_grad_()
    wanted = (images, weight) if layer.input_gradient else (weight,)
    with torch.no_grad():
        shape = F.conv2d(images, weight, stride=layer.stride, padding=layer.padding).shape
    gradient = tensor(tuple(shape))

    def there_and_back() -> None:
        out = F.conv2d(images, weight, stride=layer.stride, padding=layer.padding)
        torch.autograd.grad(out, wanted, gradient)

    return median_seconds(there_and_back, device, seconds)


def matrix_peak(precision: Precision, device: torch.device, seconds: float) -> tuple[float, Timed]:
    """FLOP a second of the fastest large square matrix product in a number format, and how that was timed.

    It is the best of the medians.

    Each is also timed as a 1x1 convolution, because another library computes that: on some processors the one for
    convolutions knows wider instructions than the one for matrices.
    """
    precision.switch_tf32()
    products = (_product, _product_as_convolution)
    rates = []
    for side in _MATRIX_SIDES[device.type]:
        for product in products:
            taken, timed = median_seconds(product(side, precision.dtype, device), device, seconds / len(products))
            rates.append((FLOP_PER_MAC * side**3 / taken, timed))
    return max(rates)


def _product(side: int, dtype: torch.dtype, device: torch.device) -> Callable[[], torch.Tensor]:
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=out)


def _product_as_convolution(side: int, dtype: torch.dtype, device: torch.device) -> Callable[[], torch.Tensor]:
    """`side` pixels of as many channels, innermost in memory."""
    height = 32
    pixels = torch.randn(1, height, side // height, side, device=device).to(dtype).permute(0, 3, 1, 2)
    weight = torch.randn(side, 1, 1, side, device=device).to(dtype).permute(0, 3, 1, 2)
    return lambda: F.conv2d(pixels, weight)
