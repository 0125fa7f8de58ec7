"""The CPU's fast twins of `pipelines.assemble`, compiled by numba; equal to it bit for bit in float32.

One pass writes each output pixel once; rows of the step are spread over the cores. A pixel whose mask is exactly 1
or 0 skips the arithmetic, which gives the same bits because 1 * a + 0 * b == a.

Shapes: N images of the data set, B rows, M members, P = 2 (image, partner), C channels, H W pixels.
"""

import numba
import numpy as np


def _compiled(function):
    """Compiles for all cores; the machine code is kept on disk where numba finds a folder it may write to."""
    try:
        return numba.njit(parallel=True, nogil=True, cache=True)(function)
    except RuntimeError:  # no such folder: a read-only installation of somebody without a home
        return numba.njit(parallel=True, nogil=True)(function)


@numba.njit(inline="always")
def _byte(images, image, y, x, channel, height, width):
    """The byte at (y, x), or 0 outside the image."""
    if 0 <= y < height and 0 <= x < width:
        return images[image, y, x, channel]
    return np.uint8(0)


@_compiled
def assemble_rows(images, table, index, offset, flip, box, values, padding, out):
    """Gathers, crops, flips, normalises and mixes the images of one step into `out`.

    Args:
        images: uint8 (N, H, W, C).
        table: float32 (C, 256).
        index: int32 (B, M, P).
        offset: int32 (B, M, P, 2).
        flip: uint8 (B, M, P).
        box: int32 (B, M, 4).
        values: float32 (B, M, 2).
        padding: int, zero pixels around each image before the crop.
        out: float32 (B, H, W, M * C), overwritten.
    """
    height, width, channels = images.shape[1], images.shape[2], images.shape[3]
    rows, members = index.shape[0], index.shape[1]
    for row in numba.prange(rows):
        for member in range(members):
            image, partner = index[row, member, 0], index[row, member, 1]
            step_a = 1 - 2 * np.int64(flip[row, member, 0])
            step_b = 1 - 2 * np.int64(flip[row, member, 1])
            first_a = offset[row, member, 0, 1] - padding + (width - 1 if step_a < 0 else 0)
            first_b = offset[row, member, 1, 1] - padding + (width - 1 if step_b < 0 else 0)
            for y in range(height):
                y_a = y + offset[row, member, 0, 0] - padding
                y_b = y + offset[row, member, 1, 0] - padding
                in_rows = box[row, member, 0] <= y < box[row, member, 1]
                for x in range(width):
                    inside = in_rows and box[row, member, 2] <= x < box[row, member, 3]
                    mask = values[row, member, 0 if inside else 1]
                    x_a, x_b = first_a + step_a * x, first_b + step_b * x
                    for channel in range(channels):
                        if mask == 1:
                            pixel = table[channel, _byte(images, image, y_a, x_a, channel, height, width)]
                        elif mask == 0:
                            pixel = table[channel, _byte(images, partner, y_b, x_b, channel, height, width)]
                        else:
                            a = table[channel, _byte(images, image, y_a, x_a, channel, height, width)]
                            b = table[channel, _byte(images, partner, y_b, x_b, channel, height, width)]
                            pixel = mask * a + (np.float32(1) - mask) * b
                        out[row, y, x, member * channels + channel] = pixel


@_compiled
def normalise_rows(images, table, out):
    """Looks every byte up: images uint8 (N, H, W, C) -> out float32 (N, H, W, C), overwritten."""
    count, height, width, channels = images.shape
    for image in numba.prange(count):
        for y in range(height):
            for x in range(width):
                for channel in range(channels):
                    out[image, y, x, channel] = table[channel, images[image, y, x, channel]]
