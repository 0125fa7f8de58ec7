"""Plans whose masks are boxes or nothing, by numba: every published run's, equal to `definition.py`'s to the bit.

`definition.py` says in numpy what is drawn, for any recipe. numpy's cost is per call, and most of it is spent with
Python's lock, so that threads do not help. Here one step is drawn after the other, row by row, without the lock. The
order of every operation is numpy's, that of sums (`_sum`) too: plans are a promise. All stands in one file because
numba keeps machine code until the file of a kernel changes, and looks at no other (`compiled.py`).

Shapes: S steps, B rows of a step, M members, P = 2: the image and its MSDA partner; n words, numbers of a stream.
"""

import numba
import numpy as np

from mixmo_fast.mixing.compiled import compiled
from mixmo_fast.mixing.philox import HALF, KEY_STEPS, LOW_BITS, MULTIPLIERS, ROUNDS, WORDS_PER_COUNT
from mixmo_fast.mixing.portable import HALLEY_STEPS, LN2_HIGH, LN2_LOW, MANTISSA_BITS, SERIES, SQRT_HALF, THIRD_OF_BIAS
from mixmo_fast.mixing.streams import Purpose

MOST_MEMBERS = 128
"""Sums of more numbers are added up by numpy in yet another order."""

_M0, _M1 = (np.uint64(multiplier) for multiplier in MULTIPLIERS)
_K0, _K1 = (np.uint64(step) for step in KEY_STEPS)
_LANES = 64  # values of the counter that go through Philox's rounds together, in the processor's vector units
_SERIES = SERIES[::-1]

_inlined = numba.njit(inline="always", error_model="numpy")


@compiled
def draw_rows(stream, order, repetitions, common, index):
    """Which image each member sees in each row; its partner is the image itself.

    Args:
        stream: (seed, epoch, first step), as uint64, int64, int64.
        order: int32 (S * B / repetitions,), the steps' part of the epoch's permutation.
        repetitions: How often each image stands in a step.
        common: The first rows, in which all members see the same image.
        index: int32 (S, B, M, P), overwritten.
    """
    steps, rows, members = index.shape[:3]
    words, place = _room(members * rows), np.empty(rows, dtype=np.int64)
    for step in range(steps):
        _draw_words(stream, Purpose.ROW_ORDER.value, step, words)
        first = step * (rows // repetitions)
        _sort(words[:rows], place)
        for row in range(rows):
            index[step, row, :, :] = order[first + place[row] // repetitions]
        for member in range(1, members):
            _sort(words[member * rows + common : (member + 1) * rows], place)
            for row in range(common, rows):
                index[step, row, member, :] = index[step, common + place[row - common], 0, 0]


@compiled
def draw_augmentation(stream, crop_padding, flips, offset, flip):
    """Crop offsets and flips of every occurrence of an image.

    Args:
        stream: As in `draw_rows`.
        crop_padding: Zero pixels around an image.
        flips: Whether images are flipped.
        offset: int32 (S, B, M, P, 2), overwritten unless the padding is 0.
        flip: uint8 (S, B, M, P), overwritten if images are flipped.
    """
    steps = len(offset)
    offsets, coins = offset.reshape(steps, -1), flip.reshape(steps, -1)
    words = _room(offsets.shape[1])
    for step in range(steps):
        if crop_padding:
            _draw_words(stream, Purpose.CROP.value, step, words)
            for i in range(offsets.shape[1]):
                offsets[step, i] = int(_uniform(words[i]) * (2 * crop_padding + 1))
        if flips:
            _draw_words(stream, Purpose.FLIP.value, step, words[: _room_size(coins.shape[1])])
            for i in range(coins.shape[1]):
                coins[step, i] = words[i] >> np.uint64(63)


@compiled
def draw_features(stream, prob, purposes, alpha, root, size, box, values, kappa, weight):
    """The masks of the members' features, and what follows from their means.

    Args:
        stream: As in `draw_rows`.
        prob: Probability of the step's method, in place of its replacement.
        purposes: Streams of the boxes of the method and of its replacement; 0 for one that is linear.
        alpha: Of the Dirichlet distribution of ratios: 0, or a whole number up to 8.
        root: Of the members' weights: 1 or 3.
        size: (h, w) of the map, pixels.
        box: int32 (S, B, 4), overwritten.
        values: float64 (S, B, M, 2), overwritten.
        kappa: float64 (S, B, M), overwritten.
        weight: float64 (S, B, M), overwritten.
    """
    steps, rows, members = kappa.shape
    words, gammas = _room(rows * members * max(alpha, 2)), np.empty((rows, members))
    role, drawn = np.empty(members, dtype=np.int64), np.empty(members)
    inside, outside = np.empty(members), np.empty(members)
    for step in range(steps):
        _draw_gammas(stream, Purpose.MIXING_RATIO.value, step, alpha, words, gammas)
        purpose = purposes[1]
        if purposes[0] != purposes[1]:
            _draw_words(stream, Purpose.MIXING_METHOD.value, step, words[:WORDS_PER_COUNT])
            purpose = purposes[0] if _uniform(words[0]) < prob else purposes[1]
        _draw_words(stream, Purpose.MIXING_ROLE.value, step, words[: _room_size(members)])
        _sort(words[:members], role)
        if purpose:
            _draw_words(stream, purpose, step, words[: _room_size(rows * 2)])
        for row in range(rows):
            total = _sum(gammas[row])
            for member in range(members):
                drawn[member] = inside[member] = outside[member] = gammas[row, member] / total
            box[step, row] = 0
            if purpose:
                y0, y1, x0, x1 = _box(drawn[0], words[2 * row], words[2 * row + 1], size)
                _write_box(box[step, row], y0, y1, x0, x1)
                place = _area(y0, y1, x0, x1) / (size[0] * size[1])
                # Role 0 owns the box, the others share the rest linearly. A box may be clipped or rounded: the ratio
                # that counts is the one that came out.
                others = _sum(drawn[1:])
                for member in range(members):
                    inside[member] = 0.0 if member else 1.0
                    outside[member] = drawn[member] / others if member else 0.0
                    drawn[member] = inside[member] * place + outside[member] * (1.0 - place)
            for member in range(members):
                kappa[step, row, member] = drawn[role[member]]
                values[step, row, member, 0] = inside[role[member]]
                values[step, row, member, 1] = outside[role[member]]
        _weigh(kappa[step], root, weight[step])


@compiled
def draw_pixels(stream, prob, beta, cuts, images, size, map_size, seen_box, seen_values, index, box, values, share):
    """MSDA of every row and member on its own: whether, with whom and under which mask, and the labels' shares.

    Args:
        stream: As in `draw_rows`.
        prob: Probability that an image is mixed.
        beta: Of the Beta distribution of ratios: 0, or a whole number up to 8.
        cuts: Whether masks are boxes (CutMix), not constants (mixup).
        images: How many the partners are drawn from.
        size: (H, W) of an image, pixels.
        map_size: (h, w) of the features, pixels.
        seen_box: int32 (S, B, 4), the features' masks, from `draw_features`.
        seen_values: float64 (S, B, M, 2), likewise.
        index: int32 (S, B, M, P), from `draw_rows`; the partners that are mixed in are written.
        box: int32 (S, B, M, 4), overwritten.
        values: float64 (S, B, M, 2), overwritten.
        share: float64 (S, B, M), overwritten.
    """
    steps, rows, members = share.shape
    pairs = rows * members
    choices, partners, places = _room(pairs), _room(pairs), _room(pairs * 2)
    words, gammas = _room(pairs * 2 * beta), np.empty((pairs, 2))
    for step in range(steps):
        _draw_words(stream, Purpose.MSDA_CHOICE.value, step, choices)
        _draw_words(stream, Purpose.MSDA_PARTNER.value, step, partners)
        _draw_gammas(stream, Purpose.MSDA_RATIO.value, step, beta, words, gammas)
        if cuts:
            _draw_words(stream, Purpose.MSDA_BOX.value, step, places)
        for i in range(pairs):
            row, member = i // members, i % members
            y0, y1, x0, x1 = 0, 0, 0, 0
            inside, outside, own = 1.0, 1.0, 1.0
            if _uniform(choices[i]) < prob:
                index[step, row, member, 1] = int(_uniform(partners[i]) * images)
                inside = outside = gammas[i, 0] / _sum(gammas[i])
                if cuts:
                    y0, y1, x0, x1 = _box(inside, places[2 * i], places[2 * i + 1], size)
                    inside, outside = 1.0, 0.0
                place = _area(y0, y1, x0, x1) / (size[0] * size[1])
                own = inside * place + outside * (1.0 - place)
                if members > 1:
                    # A map of features may be smaller than the image.
                    tall, wide = size[0] // map_size[0], size[1] // map_size[1]
                    top, bottom, left, right = seen_box[step, row]
                    seen_place = _area(top, bottom, left, right) / (map_size[0] * map_size[1])
                    lines = max(y0, top * tall), min(y1, bottom * tall)
                    columns = max(x0, left * wide), min(x1, right * wide)
                    both = _area(lines[0], lines[1], columns[0], columns[1]) / (size[0] * size[1])
                    own = _visible_share(inside, outside, seen_values[step, row, member], place, seen_place, both)
                    if own < 0.5:
                        inside, outside, own = 1.0 - inside, 1.0 - outside, 1.0 - own
            _write_box(box[step, row, member], y0, y1, x0, x1)
            values[step, row, member, 0], values[step, row, member, 1] = inside, outside
            share[step, row, member] = own


@_inlined
def _visible_share(inside, outside, seen_values, place, seen_place, both):
    """Share of what a member sees that is the image's, as `masks.visible_share`; `both` is the area of both places."""
    seen_inside, seen_outside = seen_values[0], seen_values[1]
    product = (
        inside * seen_inside * both
        + inside * seen_outside * (place - both)
        + outside * seen_inside * (seen_place - both)
        + outside * seen_outside * (1.0 - place - seen_place + both)
    )
    visible = seen_inside * seen_place + seen_outside * (1.0 - seen_place)
    return product / (visible + 1e-8) if visible > 0 else 1.0


@_inlined
def _box(ratio, word_y, word_x, size):
    """Rows y0 up to y1 and columns x0 up to x1, as `ratios.draw_boxes`."""
    side = np.sqrt(ratio)
    half_y, half_x = int(side * size[0]) // 2, int(side * size[1]) // 2
    y, x = int(_uniform(word_y) * size[0]), int(_uniform(word_x) * size[1])
    return max(y - half_y, 0), min(y + half_y, size[0]), max(x - half_x, 0), min(x + half_x, size[1])


@_inlined
def _area(y0, y1, x0, x1):
    return max(y1 - y0, 0) * max(x1 - x0, 0)


@_inlined
def _write_box(box, y0, y1, x0, x1):
    box[0], box[1], box[2], box[3] = y0, y1, x0, x1


@compiled
def _weigh(kappa, root, weight):
    """Loss weights (B, M) of a step's ratios, as `ratios.member_weights`."""
    rows, members = kappa.shape
    for row in range(rows):
        largest = 0.0
        for member in range(members):
            largest = max(largest, kappa[row, member])
        for member in range(members):
            weight[row, member] = kappa[row, member] / largest
    if root == 3:
        powers = weight.reshape(-1)
        for i in range(len(powers)):
            powers[i] = _cube_root(powers[i])
    for row in range(rows):
        total = _sum(weight[row])
        for member in range(members):
            weight[row, member] = members * weight[row, member] / total


@compiled
def _draw_gammas(stream, purpose, step, concentration, words, gammas):
    """Gamma variates (n, k) whose ratios are Dirichlet's, as in `ratios.dirichlet`; ones for concentration 0."""
    count, each = gammas.shape
    if concentration == 0:
        gammas[:, :] = 1.0
        return
    words = words[: _room_size(gammas.size * concentration)]
    _draw_words(stream, purpose, step, words)
    logarithms = np.empty(gammas.size * concentration)
    for i in range(len(logarithms)):
        logarithms[i] = _log(_uniform(words[i]))
    for i in range(count):
        for j in range(each):
            first = (i * each + j) * concentration
            gammas[i, j] = -_sum(logarithms[first : first + concentration])


@compiled
def _sort(keys, place):
    """Where the smallest key stands, and so on, as `numpy.argsort`: Shell's sort, which takes little code."""
    gap = 1
    while gap < len(keys) // 3:
        gap = 3 * gap + 1
    for i in range(len(keys)):
        place[i] = i
    while gap:
        for i in range(gap, len(keys)):
            moved, at = place[i], i
            while at >= gap and keys[place[at - gap]] > keys[moved]:
                place[at] = place[at - gap]
                at -= gap
            place[at] = moved
        gap //= 3


@compiled
def _sum(numbers):
    """Adds up to `MOST_MEMBERS` numbers in numpy's order: one by one, or from eight on in eight columns."""
    whole, total = len(numbers) - len(numbers) % 8, 0.0
    if whole:
        a, b, c, d, e, f, g, h = numbers[:8]
        for i in range(8, whole, 8):
            a, b, c, d = a + numbers[i], b + numbers[i + 1], c + numbers[i + 2], d + numbers[i + 3]
            e, f, g, h = e + numbers[i + 4], f + numbers[i + 5], g + numbers[i + 6], h + numbers[i + 7]
        total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for i in range(whole, len(numbers)):
        total += numbers[i]
    return total


@_inlined
def _log(x):
    """As `portable.log`."""
    bits = np.float64(x).view(np.int64)
    exponent = (bits - SQRT_HALF) >> MANTISSA_BITS
    k, f = np.float64(exponent), np.int64(bits - (exponent << MANTISSA_BITS)).view(np.float64) - 1.0
    s = f / (f + 2.0)
    z = s * s
    series = 0.0
    for coefficient in _SERIES:
        series = z * (coefficient + series)
    half_square = 0.5 * f * f
    return k * LN2_HIGH - (half_square - (s * (half_square + series) + k * LN2_LOW) - f)


@_inlined
def _cube_root(x):
    """As `portable.cube_root`."""
    root = np.int64(np.float64(x).view(np.int64) // 3 + THIRD_OF_BIAS).view(np.float64)
    for _ in range(HALLEY_STEPS):
        cube = root * root * root
        root += root * ((x - cube) / (2.0 * cube + x))
    return root if x > 0 else 0.0


@_inlined
def _uniform(word):
    """As `streams.as_uniforms`."""
    return (np.float64(word >> np.uint64(12)) + 0.5) * 2.0**-52


@_inlined
def _room_size(count):
    """Words that are drawn for so many that a step needs: the counter's values are not shared between steps."""
    return (count + WORDS_PER_COUNT - 1) // WORDS_PER_COUNT * WORDS_PER_COUNT


@compiled
def _room(count):
    return np.empty(_room_size(count), dtype=np.uint64)


@compiled
def _draw_words(stream, purpose, step, words):
    """All words (n,) of a step of a stream, n a multiple of four, as `streams.words`: Philox4x64-10."""
    seed, epoch, first_step = stream
    counts = len(words) // WORDS_PER_COUNT
    start = (first_step + step) * counts + 1  # numpy counts up before it draws
    a, b, c, d = np.empty((4, _LANES), dtype=np.uint64)
    for begin in range(0, counts, _LANES):
        lanes = min(_LANES, counts - begin)
        for i in range(lanes):
            a[i], b[i], c[i], d[i] = np.uint64(start + begin + i), 0, 0, 0
        key_0, key_1 = seed, np.uint64((epoch << 8) | purpose)
        for _ in range(ROUNDS):
            for i in range(lanes):
                a[i], b[i], c[i], d[i] = (
                    _upper_half(_M1, c[i]) ^ b[i] ^ key_0,
                    _M1 * c[i],
                    _upper_half(_M0, a[i]) ^ d[i] ^ key_1,
                    _M0 * a[i],
                )
            key_0, key_1 = key_0 + _K0, key_1 + _K1
        for i in range(lanes):
            at = WORDS_PER_COUNT * (begin + i)
            words[at], words[at + 1], words[at + 2], words[at + 3] = a[i], b[i], c[i], d[i]


@_inlined
def _upper_half(multiplier, word):
    """The upper 64 bits of a product of 128, for which there is no type."""
    m_high, m_low = multiplier >> HALF, multiplier & LOW_BITS
    high, low = word >> HALF, word & LOW_BITS
    middle = m_high * low + (m_low * low >> HALF)  # none of these sums reaches 2**64
    other = m_low * high + (middle & LOW_BITS)
    return m_high * high + (middle >> HALF) + (other >> HALF)
