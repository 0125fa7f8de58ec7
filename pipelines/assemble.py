"""Plan + uint8 images -> batch, in plain torch: the readable twin of every fast kernel, itself compiled on CUDA.

The arithmetic that all twins share, so that they can agree to the last bit: a byte becomes a float32 by a table
(`normalisation_table`), a pixel outside the image is byte 0, and a mixed pixel is
mask * image + (1 - mask) * partner with each product and the sum rounded to float32.

Shapes: N images of the data set, B rows, M members, P = 2 (image, partner), C channels, H W pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mixmo_fast.batch import Batch
from mixmo_fast.mixing.block import render_masks
from mixmo_fast.mixing.plan import StepPlan


def normalisation_table(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """What torchvision's ToTensor and Normalize make of each channel's byte, to the last bit: float32 (C, 256)."""
    byte = np.arange(256, dtype=np.float32) / np.float32(255)
    mean, std = (np.asarray(values, dtype=np.float32)[:, None] for values in (mean, std))
    return (byte - mean) / std


def assemble(images: Tensor, labels: Tensor, table: Tensor, plan: StepPlan, padding: int, dtype: torch.dtype) -> Batch:
    """Gathers, crops, flips, normalises and mixes the images of one step.

    Args:
        images: uint8 (N, H, W, C), the whole data set.
        labels: int64 (N,).
        table: float32 (C, 256), from `normalisation_table`.
        plan: One step's plan, as tensors on the device of `images`.
        padding: Zero pixels around each image before the crop.
        dtype: Of the result; mixing itself is done in float32.
    """
    pixels = assemble_pixels(
        *(images, table, plan.index, plan.offset, plan.flip, plan.pixel_box, plan.pixel_pattern, plan.pixel_values),
        *(padding, dtype),
    )
    return batch_of(plan, pixels, labels[plan.index.long()])


def batch_of(plan: StepPlan, pixels: Tensor, labels: Tensor) -> Batch:
    """Puts pixels (B, H, W, M * C), labels (B, M, P) and the plan's tensors together."""
    return Batch(
        images=pixels.permute(0, 3, 1, 2),
        feature_box=plan.feature_box,
        feature_pattern=plan.feature_pattern,
        feature_values=plan.feature_values,
        labels=labels,
        share=plan.share,
        weight=plan.weight,
    )


def assemble_pixels(
    images: Tensor,
    table: Tensor,
    index: Tensor,
    offset: Tensor,
    flip: Tensor,
    box: Tensor,
    pattern: Tensor,
    values: Tensor,
    padding: int,
    dtype: torch.dtype,
) -> Tensor:
    """The pixel part of `assemble`, with the plan's arrays one by one: (B, H, W, M * C) of `dtype`."""
    _, height, width, channels = images.shape
    rows, members, _ = index.shape
    x = torch.arange(width, device=images.device)
    x = torch.where(flip[..., None] == 1, width - 1 - x, x)
    y_BMPH = torch.arange(height, device=images.device) + offset[..., :1] - padding
    x_BMPW = x + offset[..., 1:] - padding
    inside_BMPHW = _within(y_BMPH, height)[..., :, None] & (_within(x_BMPW, width))[..., None, :]
    bytes_BMPHWC = images[
        index.long()[..., None, None],
        y_BMPH.clamp(0, height - 1)[..., :, None],
        x_BMPW.clamp(0, width - 1)[..., None, :],
    ]
    bytes_BMPHWC = torch.where(inside_BMPHW[..., None], bytes_BMPHWC, 0)
    pixels_BMPHWC = table[torch.arange(channels, device=images.device), bytes_BMPHWC.long()]
    masks = render_masks(box.flatten(0, 1), values.flatten(0, 1)[:, None], height, width, pattern.flatten(0, 1))
    if masks.ndim == 5:  # one value a channel
        mask_BMHWC = masks.view(rows, members, 1, 1, channels)
    else:
        mask_BMHWC = masks.view(rows, members, height, width, 1)
    mixed_BMHWC = mask_BMHWC * pixels_BMPHWC[:, :, 0] + (1 - mask_BMHWC) * pixels_BMPHWC[:, :, 1]
    return mixed_BMHWC.permute(0, 2, 3, 1, 4).reshape(rows, height, width, members * channels).to(dtype)


def _within(position: Tensor, size: int) -> Tensor:
    return (position >= 0) & (position < size)
