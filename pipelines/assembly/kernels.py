"""The CPU's fast twins of `pipelines.assembly.assemble`, compiled by numba; equal to it bit for bit in float32.

One pass writes each output pixel once. A line of an image is a few stretches, each of one mask value and one kind of
source, so that the inner loops have no branches: look three bytes up, store three floats. Where the mask is exactly 1
or 0 only one image is read, which gives the same bits because 1 * a + 0 * b == a.

Each call runs on one core, without Python's lock; who has several cores makes several calls (`assembler.py`).
Numba's own threads would meet at a barrier in every step, which is slow where steps are small or cores are shared.

Shapes: N images of the data set, B rows, M members, P = 2 (image, partner), C = 3 channels, H W pixels.
"""

import numba
import numpy as np

from mixmo_fast.mixing.compiled import compiled
from mixmo_fast.mixing.patterns import INSIDE
from pipelines.assembly.resize import SHARE_BITS, SHARE_ONE

_ONE = np.float32(1)
_SHARE_ONE, _SHARE_HALF, _SHARE_BITS = np.int32(SHARE_ONE), np.int32(SHARE_ONE // 2), np.int32(SHARE_BITS)
_SCALE = np.float32(1 / INSIDE)


@numba.njit(inline="always")
def _inside(first, step, begin, end, width):
    """The stretch of x in [begin, end) for which first + step * x lies in [0, width); step is 1 or -1."""
    if step > 0:
        return max(begin, min(end, -first)), max(begin, min(end, width - first))
    return max(begin, min(end, first - width + 1)), max(begin, min(end, first + 1))


@numba.njit(inline="always")
def _copy(images, line, visible, first, step, width, begin, end, table, out, to, stride):
    """Writes the pixels [begin, end) of one line; what lies outside the image is byte 0.

    The source's line starts at `line` of all bytes and counts only if `visible`; the written one at `to` of all floats,
    with `stride` floats a pixel, of which three are written.
    """
    low, high = end, end
    if visible:
        low, high = _inside(first, step, begin, end, width)
    red, green, blue = table[0], table[256], table[512]
    # Unsigned, because numba asks of every signed index whether it counts from the end.
    one, two, ahead = np.uint64(1), np.uint64(2), np.uint64(stride)
    at = np.uint64(to + begin * stride)
    for _ in range(low - begin):
        out[at], out[at + one], out[at + two] = red, green, blue
        at += ahead
    source, onward = np.uint64(line + 3 * (first + step * low)), np.uint64(3 * step)
    for _ in range(high - low):
        out[at] = table[np.uint64(images[source])]
        out[at + one] = table[np.uint64(images[source + one]) + np.uint64(256)]
        out[at + two] = table[np.uint64(images[source + two]) + np.uint64(512)]
        at += ahead
        source += onward
    for _ in range(end - high):
        out[at], out[at + one], out[at + two] = red, green, blue
        at += ahead


@numba.njit(inline="always")
def _position(line, visible, x, width):
    """Where the byte of channel 0 at x lies, and whether there is one: outside the image all bytes are 0."""
    if visible and 0 <= x < width:
        return np.uint64(line + 3 * x), np.uint64(1)
    return np.uint64(0), np.uint64(0)


@compiled
def assemble_rows(images, size, table, index, offset, flip, box, pattern, values, padding, out, begin, end):
    """Gathers, crops, flips, normalises and mixes the images of the rows [begin, end) into `out`.

    B may count the rows of several steps.

    Args:
        images: uint8 (N * H * W * C).
        size: (H, W).
        table: float32 (C * 256).
        index: int32 (B, M, P).
        offset: int32 (B, M, P, 2).
        flip: uint8 (B, M, P).
        box: int32 (B, M, 4).
        pattern: uint8 (B, M, c, h, w), in place of the box where c > 0.
        values: float32 (B, M, 2).
        padding: int, zero pixels around each image before the crop.
        out: float32 (B * H * W * M * C), overwritten in these rows.
        begin: int, the first row.
        end: int, the row behind the last.
    """
    height, width = size
    members = index.shape[1]
    stride = members * 3
    line_bytes, line_floats = 3 * width, stride * width
    patterned = pattern.shape[2] > 0
    for task in range(begin * members, end * members):
        row, member = task // members, task % members
        image = np.int64(index[row, member, 0]) * height
        partner = np.int64(index[row, member, 1]) * height
        step_a = 1 - 2 * np.int64(flip[row, member, 0])
        step_b = 1 - 2 * np.int64(flip[row, member, 1])
        first_a = offset[row, member, 0, 1] - padding + (width - 1 if step_a < 0 else 0)
        first_b = offset[row, member, 1, 1] - padding + (width - 1 if step_b < 0 else 0)
        top, bottom = box[row, member, 0], box[row, member, 1]
        left, right = box[row, member, 2], box[row, member, 3]
        value_inside, value_outside = values[row, member, 0], values[row, member, 1]
        constant = not patterned or value_inside == value_outside
        for y in range(height):
            y_a = y + offset[row, member, 0, 0] - padding
            y_b = y + offset[row, member, 1, 0] - padding
            visible_a, visible_b = 0 <= y_a < height, 0 <= y_b < height
            line_a, line_b = (image + y_a) * line_bytes, (partner + y_b) * line_bytes
            to = (row * height + y) * line_floats + 3 * member
            # With a pattern the line is one stretch; with a box at most three: before it, in it, behind it.
            inside = not patterned and top <= y < bottom
            for part in range(3 if inside else 1):
                start, stop, value = 0, width, value_outside
                if inside:
                    start = 0 if part == 0 else (left if part == 1 else right)
                    stop = left if part == 0 else (right if part == 1 else width)
                    if part == 1:
                        value = value_inside
                if constant and value == 1:
                    _copy(images, line_a, visible_a, first_a, step_a, width, start, stop, table, out, to, stride)
                elif constant and value == 0:
                    _copy(images, line_b, visible_b, first_b, step_b, width, start, stop, table, out, to, stride)
                else:
                    for x in range(start, stop):
                        at_a, is_a = _position(line_a, visible_a, first_a + step_a * x, width)
                        at_b, is_b = _position(line_b, visible_b, first_b + step_b * x, width)
                        at = np.uint64(to + x * stride)
                        if not constant and pattern.shape[2] == 1:
                            p = np.float32(pattern[row, member, 0, y, x]) * _SCALE
                            value = p * value_inside + (_ONE - p) * value_outside
                        for channel in range(3):
                            if not constant and pattern.shape[2] > 1:
                                p = np.float32(pattern[row, member, channel, 0, 0]) * _SCALE
                                value = p * value_inside + (_ONE - p) * value_outside
                            c = np.uint64(channel)
                            a = table[is_a * images[at_a + c] + c * np.uint64(256)]
                            b = table[is_b * images[at_b + c] + c * np.uint64(256)]
                            out[at + c] = value * a + (_ONE - value) * b


@compiled
def assemble_resized_rows(images, size, table, index, crop, flip, box, pattern, values, taps, out, begin, end):
    """As `assemble_rows`, with resized crops: a row's boxes are made images, and those then assembled.

    Args:
        images: uint8 (N * H * W * C).
        size: (H, W).
        table: float32 (C * 256).
        index: int32 (B, M, P).
        crop: int32 (B, M, P, 4), (top, left, height, width).
        flip: uint8 (B, M, P).
        box: int32 (B, M, 4).
        pattern: uint8 (B, M, c, h, w), in place of the box where c > 0.
        values: float32 (B, M, 2).
        taps: int32 (2, H + 1, H) and (2, W + 1, W), from `resize.resize_taps`.
        out: float32 (B * H * W * M * C), overwritten in these rows.
        begin: int, the first row.
        end: int, the row behind the last.
    """
    height, width = size
    members = index.shape[1]
    image_bytes, row_floats = height * width * 3, height * width * members * 3
    seen = np.empty(members * 2 * image_bytes, dtype=np.uint8)
    lines, pairs = np.empty((height, width * 3), dtype=np.uint8), np.empty((2, width * 3), dtype=np.uint8)
    shares = np.empty(width * 3, dtype=np.int32)
    place, offset = np.zeros((1, members, 2), dtype=np.int32), np.zeros((1, members, 2, 2), dtype=np.int32)
    for row in range(begin, end):
        for member in range(members):
            mixed = values[row, member, 0] != 1 or values[row, member, 1] != 1
            for which in range(2 if mixed else 1):
                number = 2 * member + which
                place[0, member, which] = number
                start = np.int64(index[row, member, which]) * image_bytes
                source = images[start : start + image_bytes].reshape(height, width * 3)
                target = seen[number * image_bytes : (number + 1) * image_bytes].reshape(height, width * 3)
                _resize(source, crop[row, member, which], taps, lines, pairs, shares, target)
            if not mixed:
                place[0, member, 1] = 2 * member  # nothing is seen of it
        here = slice(row, row + 1)
        pixels = out[row * row_floats : (row + 1) * row_floats]
        assemble_rows(
            seen, size, table, place, offset, flip[here], box[here], pattern[here], values[here], 0, pixels, 0, 1
        )


@compiled
def _resize(image, crop, taps, lines, pairs, shares, out):
    """Stretches a box to the image's size.

    Args:
        image: uint8 (H, W * C).
        crop: int32 (4,), the box.
        taps: As in `assemble_resized_rows`.
        lines: uint8 (H, W * C), room for the box's lines.
        pairs: uint8 (2, W * C), room for the neighbours of a line's bytes.
        shares: int32 (W * C), room for the upper ones' shares.
        out: uint8 (H, W * C), overwritten.
    """
    top, left, tall, wide = crop
    lower = taps[1][0, wide]
    g, b = np.uint64(1), np.uint64(2)
    for i in range(len(shares)):
        shares[i] = taps[1][1, wide, i // 3]
    below, above = pairs[0], pairs[1]
    for y in range(tall):
        source, line, to = image[top + y, 3 * left :], lines[y], np.uint64(0)
        # First the bytes are put side by side, so that the arithmetic is left to the processor's vector units.
        for x in range(len(lower)):
            one, other = np.uint64(3 * lower[x]), np.uint64(3 * min(lower[x] + 1, wide - 1))
            below[to], below[to + g], below[to + b] = source[one], source[one + g], source[one + b]
            above[to], above[to + g], above[to + b] = source[other], source[other + g], source[other + b]
            to += np.uint64(3)
        for i in range(len(line)):
            line[i] = _blend(below[i], above[i], shares[i])
    lower, share = taps[0][0, tall], taps[0][1, tall]
    for y in range(len(lower)):
        one_line, other_line, line, part = lines[lower[y]], lines[min(lower[y] + 1, tall - 1)], out[y], share[y]
        for i in range(len(line)):
            line[i] = _blend(one_line[i], other_line[i], part)


@numba.njit(inline="always")
def _blend(one, other, share):
    """As `assemble.blend`."""
    between = np.int32(np.int32(other) - np.int32(one)) * share
    return np.uint8(np.int32(np.int32(one) * _SHARE_ONE + between + _SHARE_HALF) >> _SHARE_BITS)


@compiled
def normalise_rows(images, table, out):
    """Looks every byte up: images uint8 (N, H, W * C) -> out float32 (N, H, W * C), overwritten."""
    count, height, width = images.shape
    for image in range(count):
        for y in range(height):
            for x in range(width // 3):
                for channel in range(3):
                    out[image, y, 3 * x + channel] = table[np.uint32(images[image, y, 3 * x + channel]) + 256 * channel]
