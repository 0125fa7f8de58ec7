"""The CPU's fast twin of `pipelines.augmix`, compiled by numba: the same whole numbers, an image after the other.

An image's chains stay in a core's cache, and positions that are whole pixels, as after a translation, are only copied.
Each call runs on one core, without Python's lock (see `pipelines.kernels`).

Shapes: N images at hand, D of them to transform, C = 3 channels, H W pixels.
"""

import numba
import numpy as np

from pipelines.augmix import AFFINE, EQUALIZE, FRACTION_BITS, NOTHING, POSITION_BITS, TONE, WEIGHT_BITS
from pipelines.kernels import compiled

_HALF_PIXEL = np.int64(1 << (POSITION_BITS - 1))
_FRACTION = np.int64((1 << POSITION_BITS) - 1)
_FRACTION_SHIFT = np.int64(POSITION_BITS - FRACTION_BITS)
_ONE = np.int64(1 << FRACTION_BITS)
_HALF_OF_MEAN = np.int64(1 << (2 * FRACTION_BITS - 1))


@compiled
def augment_images(images, source, kind, number, weight, out, begin, end):
    """Transforms the images [begin, end) of those that `source` names into `out`.

    Args:
        images: uint8 (N, H, W, C).
        source: int32 (D,), which of the N each one is.
        kind: uint8 (D, 3, 3), see `pipelines.augmix.Transforms`.
        number: int32 (D, 3, 3, 6), likewise.
        weight: int32 (D, 4), likewise.
        out: uint8 (D, H, W, C), overwritten there.
        begin: int, the first image.
        end: int, the image behind the last.
    """
    height, width, channels = images.shape[1:]
    chains, depth = kind.shape[1:]
    total = np.empty(height * width * channels, dtype=np.int32)
    buffers = np.empty((2, height, width, channels), dtype=np.uint8)
    histogram = np.empty((channels, 256), dtype=np.int64)
    for image in range(begin, end):
        own = images[source[image]]
        flat = own.reshape(-1)
        for at in range(total.size):
            total[at] = np.int32(flat[at]) * weight[image, 0] + np.int32(1 << (WEIGHT_BITS - 1))
        for chain in range(chains):
            state, free = own, 0
            for turn in range(depth):
                what, numbers = kind[image, chain, turn], number[image, chain, turn]
                if what == NOTHING:
                    continue
                if what == TONE:
                    _tone(state, numbers, buffers[free])
                elif what == EQUALIZE:
                    _equalize(state, histogram, buffers[free])
                elif what == AFFINE:
                    _affine(state, numbers, buffers[free])
                state, free = buffers[free], 1 - free
            flat, share = state.reshape(-1), weight[image, chain + 1]
            for at in range(total.size):
                total[at] += np.int32(flat[at]) * share
        to = out[image].reshape(-1)
        for at in range(total.size):
            to[at] = total[at] >> WEIGHT_BITS


@compiled
def _tone(state, numbers, out):
    threshold, mask = numbers[0], np.uint8(numbers[1])
    before, after = state.reshape(-1), out.reshape(-1)
    for at in range(before.size):
        value = before[at]
        after[at] = (value if value < threshold else np.uint8(255) - value) & mask


@compiled
def _equalize(state, histogram, out):
    height, width, channels = state.shape
    histogram[:] = 0
    for y in range(height):
        for x in range(width):
            for channel in range(channels):
                histogram[channel, state[y, x, channel]] += 1
    for channel in range(channels):
        last = 255
        while histogram[channel, last] == 0:
            last -= 1
        step = (height * width - histogram[channel, last]) // 255
        below = step // 2
        for value in range(256):
            count = histogram[channel, value]
            histogram[channel, value] = min(below // step, 255) if step > 0 else value
            below += count
    for y in range(height):
        for x in range(width):
            for channel in range(channels):
                out[y, x, channel] = histogram[channel, state[y, x, channel]]


@numba.njit(inline="always")
def _within(first, step, low, high, width):
    """The stretch of x in [0, width) for which low <= first + step * x < high."""
    begin, end = 0, width
    if step == 0:
        return (0, width) if low <= first < high else (0, 0)
    if step > 0:
        begin = -((first - low) // step)
        end = -((first - high) // step)
    else:
        begin = (first - high) // -step + 1
        end = (first - low) // -step + 1
    begin = min(max(begin, 0), width)
    return begin, min(max(end, begin), width)


@compiled
def _affine(state, numbers, out):
    height, width = state.shape[:2]
    a, d = np.int64(numbers[0]), np.int64(numbers[3])
    last_x, last_y = np.int64(width - 1), np.int64(height - 1)
    pixels, to = state.reshape(-1), out.reshape(-1)
    one, two = np.uint64(1), np.uint64(2)
    low, right, bottom = -_HALF_PIXEL, (width << POSITION_BITS) - _HALF_PIXEL, (height << POSITION_BITS) - _HALF_PIXEL
    for y in range(height):
        from_x = np.int64(numbers[1]) * y + numbers[2]
        from_y = np.int64(numbers[4]) * y + numbers[5]
        begin, end = _within(from_x, a, low, right, width)
        other_begin, other_end = _within(from_y, d, low, bottom, width)
        begin = max(begin, other_begin)
        end = max(begin, min(end, other_end))
        line = y * width
        to[3 * line : 3 * (line + begin)] = 0
        to[3 * (line + end) : 3 * (line + width)] = 0
        from_x += a * begin
        from_y += d * begin
        for x in range(begin, end):
            share_x, share_y = (from_x & _FRACTION) >> _FRACTION_SHIFT, (from_y & _FRACTION) >> _FRACTION_SHIFT
            x_low, y_low = from_x >> POSITION_BITS, from_y >> POSITION_BITS
            x_high, y_high = min(x_low + 1, last_x), min(y_low + 1, last_y)
            x_low, y_low = max(x_low, 0), max(y_low, 0)
            at = np.uint64(3 * (line + x))
            # Unsigned, because numba asks of every signed index whether it counts from the end.
            p, q = np.uint64(3 * (y_low * width + x_low)), np.uint64(3 * (y_low * width + x_high))
            if share_x | share_y == 0:
                to[at], to[at + one], to[at + two] = pixels[p], pixels[p + one], pixels[p + two]
            else:
                r, s = np.uint64(3 * (y_high * width + x_low)), np.uint64(3 * (y_high * width + x_high))
                w_p, w_q = (_ONE - share_y) * (_ONE - share_x), (_ONE - share_y) * share_x
                w_r, w_s = share_y * (_ONE - share_x), share_y * share_x
                for channel in range(3):
                    c = np.uint64(channel)
                    mean = w_p * pixels[p + c] + w_q * pixels[q + c] + w_r * pixels[r + c] + w_s * pixels[s + c]
                    to[at + c] = (mean + _HALF_OF_MEAN) >> np.int64(2 * FRACTION_BITS)
            from_x += a
            from_y += d
