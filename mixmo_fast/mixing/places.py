"""Draws where masks lie: a box or a pattern for each chosen (row) or (row, member), by the method's name.

Shapes: S steps, `...` the axes of one step, c h w a pattern's channels and pixels.
"""

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from mixmo_fast.mixing import ratios
from mixmo_fast.mixing.methods import MASKS
from mixmo_fast.mixing.patterns import INSIDE, draw_patterns, pattern_shape, uniforms_per_pattern
from mixmo_fast.mixing.ratios import in_boxes
from mixmo_fast.mixing.streams import Draw, Purpose

Places = tuple[NDArray[np.int32], NDArray[np.uint8]]

_STACK_AXES = {"rows": 0, "columns": 1}


def no_places(method: str, shape: tuple[int, ...], channels: int, size: tuple[int, int]) -> Places:
    """Empty boxes and patterns, in the shapes that the method's have."""
    return np.zeros((*shape, 4), dtype=np.int32), np.zeros((*shape, *pattern_shape(method, channels, *size)), np.uint8)


def draw_places(
    method: str,
    ratio: NDArray[np.float64],
    chosen: NDArray[np.bool_],
    draw: Draw,
    box_purpose: Purpose,
    pattern_purpose: Purpose,
    channels: int,
    size: tuple[int, int],
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.float64]]:
    """The places of masks of mean `ratio` (S, ...) where `chosen`, and these masks' two values.

    Returns:
        Boxes int32 (S, ..., 4), patterns uint8 (S, ..., c, h, w), values float64 (S, ..., 2).
    """
    shape = ratio.shape[1:]
    box, pattern = no_places(method, ratio.shape, channels, size)
    values = np.empty((*ratio.shape, 2))
    values[...] = (1.0, 0.0)
    place = MASKS[method].place
    if place in ("map", "channels"):
        # Rendering is what costs, so it is done for the chosen alone, a step at a time.
        needed = uniforms_per_pattern(method, channels, *size)
        for step in np.flatnonzero(chosen.any(axis=tuple(range(1, chosen.ndim)))).tolist():
            here = chosen[step]
            uniforms = draw.at(step).uniform(pattern_purpose, *shape, needed)[0, here]
            pattern[step, here], values[step, here] = draw_patterns(
                method, ratio[step, here], uniforms, channels, *size
            )
    elif place in _STACK_AXES:
        box = ratios.draw_stacks(ratio, draw.uniform(box_purpose, *shape), *size, _STACK_AXES[place])
    else:
        box = ratios.draw_boxes(ratio, draw.uniform(box_purpose, *shape, 2), *size)
    return np.where(chosen[..., None], box, 0), pattern, values


def join_places(places: Sequence[Places], size: tuple[int, int]) -> Places:
    """The places of steps that each belong to one of some methods, which has empty places at the others' steps.

    Boxes stay boxes among themselves; beside patterns they become patterns. Where one method's patterns are constant
    over the map and another's over the channels, what holds both is a map for each channel.

    Args:
        places: For each method its boxes int32 (S, ..., 4) and patterns uint8 (S, ..., c, h, w), from `draw_places`.
        size: (h, w) of the map, pixels.
    """
    if len(places) == 1:
        return places[0]
    boxes, patterns = zip(*places, strict=True)
    if not any(pattern.shape[-3] for pattern in patterns):
        return np.bitwise_or.reduce(boxes), patterns[0]
    all_patterns = [
        pattern if pattern.shape[-3] else in_boxes(box, *size)[..., None, :, :] * np.uint8(INSIDE)
        for box, pattern in places
    ]
    return np.zeros_like(boxes[0]), reduce(np.bitwise_or, all_patterns)


def both(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values (..., 2) of a mask that is the same inside and outside."""
    return np.stack((value, value), axis=-1)
