"""Mixes what DALI made and lays the members side by side: the samples of some rows -> their pixels.

On CUDA torch does it, by the functions of `pipelines.assemble`. On a CPU it is one pass of numba on one core, with the
same bits: torch would make seven passes, each on all cores, which wait for each other while DALI's threads hold them.

Shapes: n = B * M + K samples: the B * M images and then the K partners; B rows, M members, C = 3 channels, H W pixels.
"""

import numpy as np
from torch import Tensor

from mixmo_fast.mixing.patterns import INSIDE
from mixmo_fast.mixing.plan import StepPlan
from pipelines.assemble import mix_pixels, pixel_masks
from pipelines.kernels import compiled

_ONE = np.float32(1)
_SCALE = np.float32(1 / INSIDE)


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
