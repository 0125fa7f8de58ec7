"""Masks as the plan knows them: a place (a box, or a pattern) and two values, inside and outside of it.

A mask is p * inside + (1 - p) * outside, with p the place's indicator. That is linear in p, so a mask's mean needs
only the place's mean, and the mean of a product of two masks only the mean of the product of their places: for two
boxes a few multiplications, whatever the map's size.

Shapes: `...` any leading axes, c h w a pattern's channels and pixels. A place is a box where c = 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixmo_fast.mixing.patterns import INSIDE
from mixmo_fast.mixing.ratios import Boxes, Floats, box_area, in_boxes, overlap_area


@dataclass(frozen=True)
class Masks:
    """Masks on a map of `size` pixels.

    Attributes:
        box: int32 (..., 4), (y0, y1, x0, x1) half open.
        pattern: uint8 (..., c, h, w), 128 inside and 0 outside; (..., 0, 0, 0) where the place is the box.
        values: float64 (..., 2), inside and outside.
        size: (height, width) of the map, pixels.
    """

    box: Boxes
    pattern: NDArray[np.uint8]
    values: Floats
    size: tuple[int, int]

    @property
    def has_pattern(self) -> bool:
        """Whether the place is a pattern, not a box."""
        return self.pattern.shape[-3] > 0

    def place_mean(self) -> Floats:
        """Share of the map inside each place, all channels counted: float64 (...)."""
        if self.has_pattern:
            return self.pattern.mean(axis=(-3, -2, -1)) / INSIDE
        return box_area(self.box, *self.size)

    def mean(self) -> Floats:
        """Mean of each mask: float64 (...)."""
        return mask_mean(self.place_mean(), self.values)


def mask_mean(place: Floats, values: Floats) -> Floats:
    """Means of masks: place * inside + (1 - place) * outside, for means of places (...) and values (..., 2)."""
    return values[..., 0] * place + values[..., 1] * (1.0 - place)


def visible_share(masks: Masks, seen: Masks) -> Floats:
    """Share of what a member can see that belongs to the image: mean(mask * seen) / (mean(seen) + 1e-8).

    A map of features may be smaller than the image. Averaging the pixels' mask over each of its cells before
    multiplying, as the authors do, has the same mean as enlarging the features' mask to the image.

    Args:
        masks: (S, B, M) pixel masks.
        seen: The manifold masks which weigh what the members see: place (S, B), values (S, B, M, 2).

    Returns:
        float64 (S, B, M). A member that sees nothing has nothing to share: 1, so that the image keeps its label.
    """
    first = first_channel(seen)
    place, seen_place = masks.place_mean(), first.place_mean()[..., None]
    both = _overlap(masks, first)
    inside, outside = masks.values[..., 0], masks.values[..., 1]
    seen_inside, seen_outside = seen.values[..., 0], seen.values[..., 1]
    product = (
        inside * seen_inside * both
        + inside * seen_outside * (place - both)
        + outside * seen_inside * (seen_place - both)
        + outside * seen_outside * (1.0 - place - seen_place + both)
    )
    visible = mask_mean(seen_place, seen.values)
    # The 1e-8 is the authors' implementation's; it only matters where a member sees almost nothing.
    return np.where(visible > 0, product / (visible + 1e-8), 1.0)


def first_channel(masks: Masks) -> Masks:
    """Masks that differ between channels count by their first one, where a share is concerned."""
    return Masks(masks.box, masks.pattern[..., :1, :, :], masks.values, masks.size)


def _overlap(masks: Masks, seen: Masks) -> Floats:
    """Mean of the product of the places, (S, B, M) and (S, B) with at most one channel: float64 (S, B, M)."""
    (height, width), (map_height, map_width) = masks.size, seen.size
    if not masks.has_pattern and not seen.has_pattern:
        scale = np.array((height // map_height,) * 2 + (width // map_width,) * 2, dtype=np.int32)
        return overlap_area(masks.box, (seen.box * scale)[:, :, None, :], height, width)
    if _is_constant(masks) or _is_constant(seen):
        return masks.place_mean() * seen.place_mean()[..., None]
    cells = _render(masks).reshape(*masks.box.shape[:-1], map_height, height // map_height, map_width, -1)
    return np.einsum("sbmhywx,sbhw->sbm", cells, _render(seen)) / (height * width)


def _is_constant(masks: Masks) -> bool:
    """Whether the pattern is the same at all pixels."""
    return masks.has_pattern and masks.pattern.shape[-2:] == (1, 1)


def _render(masks: Masks) -> Floats:
    """Each place on its map: (..., h, w), 0 to 1."""
    if masks.has_pattern:
        return masks.pattern[..., 0, :, :] / INSIDE
    return in_boxes(masks.box, *masks.size).astype(np.float64)
