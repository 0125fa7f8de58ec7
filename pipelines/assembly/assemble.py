"""Plan + uint8 images -> batch, in plain torch: the readable twin of every fast kernel, itself compiled on CUDA.

The arithmetic that all twins share, so that they can agree to the last bit: a byte becomes a float32 by a table
(`normalisation_table`), a pixel outside the image is byte 0, and a mixed pixel is
mask * image + (1 - mask) * partner with each product and the sum rounded to float32. Resized crops are bytes, too,
before anything else happens to them (`resize.py`).

Shapes: N images of the data set, B rows, M members, P = 2 (image, partner), C channels, H W pixels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixmo_fast.batch import Batch
from mixmo_fast.mixing.block import render_masks
from mixmo_fast.mixing.plan import StepPlan
from pipelines.assembly.resize import SHARE_BITS, SHARE_ONE, resize_taps

# TorchInductor writes what is read often, or takes many operations, to memory and goes on in another kernel. Here that
# would be the gathered bytes and the masks: much more traffic than computing an index again.
ONE_KERNEL: dict[str, str | int | bool | Callable[..., Any]] = {
    "realize_reads_threshold": 100,
    "realize_opcount_threshold": 1000,
    # Without it a compiler for GPUs makes one operation, rounded once, of a product and a sum.
    "emulate_precision_casts": True,
}


def normalisation_table(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """What torchvision's ToTensor and Normalize make of each channel's byte, to the last bit: float32 (C, 256)."""
    byte = np.arange(256, dtype=np.float32) / np.float32(255)
    mean_C1, std_C1 = (np.asarray(values, dtype=np.float32)[:, None] for values in (mean, std))
    return (byte - mean_C1) / std_C1


def assemble(images: Tensor, labels: Tensor, table: Tensor, plan: StepPlan, padding: int, dtype: torch.dtype) -> Batch:
    """Gathers, crops, flips, normalises and mixes the images of one step.

    Args:
        images: uint8 (N, H, W, C), the whole data set.
        labels: int64 (N,).
        table: float32 (C, 256), from `normalisation_table`.
        plan: One step's plan, as tensors on the device of `images`.
        padding: Zero pixels around each image before the crop; 0 for a plan of resized crops.
        dtype: Of the result; mixing itself is done in float32.
    """
    masks = plan.pixel_box, plan.pixel_pattern, plan.pixel_values
    if plan.crop.shape[-1]:
        taps_y, taps_x = (torch.from_numpy(resize_taps(side).copy()).to(images.device) for side in images.shape[1:3])
        pixels = assemble_resized_pixels(
            images, table, plan.index, plan.crop, plan.flip, *masks, (taps_y, taps_x), dtype
        )
    else:
        pixels = assemble_pixels(images, table, plan.index, plan.offset, plan.flip, *masks, padding, dtype)
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
    """The pixel part of `assemble`, with the plan's arrays one by one: (B, H, W, M * C) of `dtype`.

    Everything is indexed in the order of the result, so that a compiler can make one kernel of it all.
    """
    _, height, width, _ = images.shape
    rows = len(index)
    image, partner = (
        look_up(images, table, index[..., which], offset[..., which, :], flip[..., which], padding) for which in (0, 1)
    )
    mask = pixel_masks(box, pattern, values, height, width)
    return mix_pixels(image, partner, mask).to(dtype).reshape(rows, height, width, -1)


def assemble_resized_pixels(
    images: Tensor,
    table: Tensor,
    index: Tensor,
    crop: Tensor,
    flip: Tensor,
    box: Tensor,
    pattern: Tensor,
    values: Tensor,
    taps: tuple[Tensor, Tensor],
    dtype: torch.dtype,
) -> Tensor:
    """As `assemble_pixels`, with resized crops: boxes, and `resize.resize_taps` of both sides of an image."""
    _, height, width, _ = images.shape
    rows = len(index)
    image, partner = (
        look_up_resized(images, table, index[..., which], crop[..., which, :], flip[..., which], taps)
        for which in (0, 1)
    )
    mask = pixel_masks(box, pattern, values, height, width)
    return mix_pixels(image, partner, mask).to(dtype).reshape(rows, height, width, -1)


def look_up(images: Tensor, table: Tensor, index: Tensor, offset: Tensor, flip: Tensor, padding: int) -> Tensor:
    """Gathers, crops, flips and normalises: index (B, M), offset (B, M, 2), flip (B, M) -> float32 (B, H, W, M, C)."""
    _, height, width, channels = images.shape
    x_WM = torch.arange(width, device=images.device)[:, None]
    x_BHWM = torch.where(flip[:, None, None] == 1, width - 1 - x_WM, x_WM) + offset[:, None, None, :, 1] - padding
    y_BHWM = torch.arange(height, device=images.device)[:, None, None] + offset[:, None, None, :, 0] - padding
    inside_BHWM = (y_BHWM >= 0) & (y_BHWM < height) & (x_BHWM >= 0) & (x_BHWM < width)
    line_BHWM = index[:, None, None].long() * height + y_BHWM.clamp(0, height - 1)
    bytes_BHWMC = images.view(-1, channels)[line_BHWM * width + x_BHWM.clamp(0, width - 1)]
    bytes_BHWMC = torch.where(inside_BHWM[..., None], bytes_BHWMC, 0)
    return table[torch.arange(channels, device=images.device), bytes_BHWMC.long()]


def look_up_resized(
    images: Tensor, table: Tensor, index: Tensor, crop: Tensor, flip: Tensor, taps: tuple[Tensor, Tensor]
) -> Tensor:
    """Gathers, resizes, flips and normalises: index (B, M), crop (B, M, 4), flip (B, M) -> float32 (B, H, W, M, C)."""
    _, height, width, channels = images.shape
    top, left, tall, wide = (crop[:, None, None, :, side].long() for side in range(4))
    x_WM = torch.arange(width, device=images.device)[:, None]
    x_BHWM = torch.where(flip[:, None, None] == 1, width - 1 - x_WM, x_WM)
    y_HWM = torch.arange(height, device=images.device)[:, None, None]
    (lower_y, share_y), (lower_x, share_x) = taps[0][:, tall, y_HWM], taps[1][:, wide, x_BHWM]
    upper_y, upper_x = torch.minimum(lower_y + 1, tall - 1), torch.minimum(lower_x + 1, wide - 1)
    first_line, pixels = index[:, None, None].long() * height + top, images.view(-1, channels)

    def across(y: Tensor) -> Tensor:
        start = (first_line + y) * width + left
        return blend(pixels[start + lower_x], pixels[start + upper_x], share_x[..., None])

    bytes_BHWMC = blend(across(lower_y), across(upper_y), share_y[..., None])
    return table[torch.arange(channels, device=images.device), bytes_BHWMC.long()]


def blend(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """The byte between two bytes of which the other has a share of `SHARE_ONE`, rounded to the nearest: int32."""
    return (one.int() * (SHARE_ONE - share) + other.int() * share + SHARE_ONE // 2) >> SHARE_BITS


def pixel_masks(box: Tensor, pattern: Tensor, values: Tensor, height: int, width: int) -> Tensor:
    """Weights of the images, not the partners: float32 (B, H, W, M, 1), or (B, 1, 1, M, C) for one value a channel.

    Args:
        box: int32 (B, M, 4).
        pattern: uint8 (B, M, c, h, w), in place of the box where c > 0.
        values: float32 (B, M, 2), inside and outside.
        height: H, pixels.
        width: W, pixels.
    """
    rows, members, _ = box.shape
    masks = render_masks(box.flatten(0, 1), values.flatten(0, 1)[:, None], height, width, pattern.flatten(0, 1))
    masks = masks if masks.ndim == 5 else masks[:, :, None]  # (B * M, 1, 1 or C, H or 1, W or 1)
    return masks.view(rows, members, *masks.shape[2:]).permute(0, 3, 4, 1, 2)


def mix_pixels(image: Tensor, partner: Tensor, mask: Tensor) -> Tensor:
    """Returns mask * image + (1 - mask) * partner, each product and the sum rounded to float32."""
    return mask * image + (1 - mask) * partner
