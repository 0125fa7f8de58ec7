"""The images of some rows as single samples: listed, cut out, and once they are normalised, mixed.

There is a sample for every image that a member sees, and behind those one for every partner that is mixed in. DALI
makes them so, and AugMix transforms them one by one. Mixing is done on CUDA by torch, with the functions of
`assemble.py`; on a CPU it is one pass of numba on one core, with the same bits: torch would make seven passes, each on
all cores, which wait for each other while DALI's threads hold them.

Shapes: N images of the data set, n = B * M + K samples: the B * M images and then the K partners; B rows, M members,
P = 2 (image, partner), C = 3 channels, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixmo_fast.mixing.compiled import compiled
from mixmo_fast.mixing.patterns import INSIDE
from mixmo_fast.mixing.plan import StepPlan
from pipelines.assembly.assemble import mix_pixels, pixel_masks

_ONE = np.float32(1)
_SCALE = np.float32(1 / INSIDE)


@dataclass(frozen=True)
class Samples:
    """The samples of B rows.

    Attributes:
        mixed: int64 (K,), ascending: which of the B * M images has a partner.
        start: int32 (n, 3), number of the image, row and column of the crop in it, which may be negative.
        flip: int32 (n,), 1 for a left-right flip after the crop.
    """

    mixed: NDArray[np.int64]
    start: NDArray[np.int32]
    flip: NDArray[np.int32]


def list_samples(plan: StepPlan, padding: int) -> Samples:
    """The samples of some rows.

    Args:
        plan: Of the rows, as arrays.
        padding: Zero pixels around each image.
    """
    # Where a mask is 1 inside and outside, nothing is seen of the partner.
    mixed = np.flatnonzero((plan.pixel_values != 1).any(axis=-1))
    start = np.concatenate((plan.index[..., None], plan.offset - np.int32(padding)), axis=-1)
    return Samples(mixed, by_sample(start, mixed), by_sample(plan.flip, mixed).astype(np.int32))


def by_sample(values: NDArray, mixed: NDArray[np.int64]) -> NDArray:
    """What belongs to each occurrence, (B, M, P, ...), in the order of the samples: (n, ...)."""
    values = values.reshape(-1, *values.shape[2:])
    return np.concatenate((values[:, 0], values[mixed, 1]))


def places_of(samples: Samples, plan: StepPlan) -> NDArray[np.int32]:
    """Which sample each occurrence of an image is, int32 (B, M, P); a partner that is not seen is the image itself."""
    places = np.arange(plan.flip[..., 0].size, dtype=np.int32)[:, None].repeat(2, axis=1)
    places[samples.mixed, 1] = len(places) + np.arange(len(samples.mixed), dtype=np.int32)
    return places.reshape(plan.flip.shape)


def cut_samples(images: Tensor, start: Tensor, flip: Tensor) -> Tensor:
    """Crops and flips; what lies outside of an image is 0.

    Args:
        images: uint8 (N, H, W, C), on any device.
        start: int64 (n, 3), as in `Samples`, there.
        flip: int64 (n,), likewise.

    Returns:
        uint8 (n, H, W, C).
    """
    _, height, width, channels = images.shape
    x, y = (torch.arange(side, device=images.device) for side in (width, height))
    x = torch.where(flip[:, None] == 1, width - 1 - x, x) + start[:, 2:]
    y = y + start[:, 1, None]
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
    line = start[:, 0, None] * height + y.clamp(0, height - 1)
    at = line[:, :, None] * width + x.clamp(0, width - 1)[:, None]
    pixels = images.reshape(-1, channels).index_select(0, at.flatten()).view(*at.shape, channels)
    return pixels.masked_fill_(~inside[..., None], 0)


def send(arrays: Sequence[NDArray], device: torch.device) -> list[Tensor]:
    """Arrays of whole numbers, of any shapes, as int64 tensors on a device, in one copy that nobody waits for."""
    sizes = [array.size for array in arrays]
    packed = torch.empty(sum(sizes), dtype=torch.int64, pin_memory=device.type == "cuda")
    np.concatenate([array.ravel() for array in arrays], out=packed.numpy(), casting="safe")
    parts = packed.to(device, non_blocking=True).split(sizes)
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


def mix_by_torch(samples: Tensor, mixed: Tensor, plan: StepPlan, out: Tensor) -> None:
    """Writes the pixels of B rows.

    Args:
        samples: float32 (n, H, W, C), on the device of everything else; overwritten.
        mixed: int64 (K,), which of the B * M images has a partner.
        plan: Of these rows, as tensors.
        out: float32 (B, H, W, M, C), overwritten.
    """
    rows, height, width, members, channels = out.shape
    images, partners = samples[:, :, :, None].split((rows * members, len(mixed)))
    box, pattern, values = (
        array.flatten(0, 1)[mixed, None] for array in (plan.pixel_box, plan.pixel_pattern, plan.pixel_values)
    )
    mask = pixel_masks(box, pattern, values, height, width)
    images[mixed] = mix_pixels(images[mixed], partners, mask)
    out.copy_(images.view(rows, members, height, width, channels).permute(0, 2, 3, 1, 4))


def mix_by_numba(samples: Tensor, mixed: np.ndarray, plan: StepPlan, out: Tensor) -> None:
    """The same with a plan of numpy arrays, on one core; `mixed` is ascending."""
    places = plan.pixel_box, plan.pixel_pattern, plan.pixel_values
    _mix_rows(samples.numpy(), mixed, *places, out.numpy())


@compiled
def _mix_rows(samples, mixed, box, pattern, values, out):
    """The same without torch.

    Args:
        samples: float32 (n, H, W, C).
        mixed: int64 (K,), ascending.
        box: int32 (B, M, 4).
        pattern: uint8 (B, M, c, h, w), in place of the box where c > 0.
        values: float32 (B, M, 2).
        out: float32 (B, H, W, M, C), overwritten.
    """
    rows, height, width, members = out.shape[:4]
    partner = 0
    for image in range(rows * members):
        row, member = image // members, image % members
        if partner == len(mixed) or mixed[partner] != image:
            for y in range(height):
                own, to = samples[image, y], out[row, y, :, member]
                for x in range(width):
                    to[x, 0], to[x, 1], to[x, 2] = own[x, 0], own[x, 1], own[x, 2]
            continue
        inside, outside = values[row, member]
        top, bottom, left, right = box[row, member]
        for y in range(height):
            own, other, to = samples[image, y], samples[rows * members + partner, y], out[row, y, :, member]
            for x in range(width):
                value = inside if top <= y < bottom and left <= x < right else outside
                if pattern.shape[2] == 1:
                    p = np.float32(pattern[row, member, 0, y, x]) * _SCALE
                    value = p * inside + (_ONE - p) * outside
                for channel in range(3):
                    if pattern.shape[2] > 1:
                        p = np.float32(pattern[row, member, channel, 0, 0]) * _SCALE
                        value = p * inside + (_ONE - p) * outside
                    to[x, channel] = value * own[x, channel] + (_ONE - value) * other[x, channel]
        partner += 1
