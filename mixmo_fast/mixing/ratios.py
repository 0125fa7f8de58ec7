"""Ratios and what follows from them: kappa, boxes and their areas, loss weights.

Pure arithmetic on numpy arrays; the uniforms come from the caller. Shapes: `...` any leading axes, M members.
"""

import numpy as np
from numpy.typing import NDArray

from mixmo_fast.mixing.portable import cube_root, log

Floats = NDArray[np.float64]
Boxes = NDArray[np.int32]


def uniforms_per_ratio(concentration: float) -> int:
    """How many uniforms `dirichlet` needs for each component."""
    return int(concentration) if is_small_integer(concentration) else 1


def dirichlet(concentration: float, uniforms: Floats) -> Floats:
    """Symmetric Dirichlet ratios by normalising gamma variates.

    Args:
        concentration: alpha > 0, the same for each component. Two components give (x, 1-x), x ~ Beta(alpha, alpha).
        uniforms: (..., M, `uniforms_per_ratio(concentration)`), in the open interval (0, 1).

    Returns:
        float64 (..., M), which sum to 1 over the last axis.
    """
    if is_small_integer(concentration):
        # A gamma variate of integer shape is a sum of exponentials (Erlang): cheap, and the same on every processor.
        gammas = -log(uniforms).sum(axis=-1)
    else:
        from scipy.special import gammaincinv  # imported here, as whole numbers need no scipy

        gammas = np.maximum(gammaincinv(concentration, uniforms[..., 0]), np.finfo(np.float64).tiny)
    return gammas / gammas.sum(axis=-1, keepdims=True)


def is_small_integer(concentration: float) -> bool:
    """Whether a gamma variate of this shape is drawn as a sum of few exponentials."""
    return concentration == int(concentration) and 1 <= concentration <= 8


def draw_boxes(ratios: Floats, uniforms: Floats, height: int, width: int) -> Boxes:
    """CutMix boxes (Yun et al. 2019, arXiv 1905.04899): a side of sqrt(ratio), a uniform centre, clipped.

    An odd side loses one pixel and a box at the border is clipped, as in the authors' implementation; therefore the
    ratio that counts afterwards is `box_area`, not the one asked for.

    Args:
        ratios: (...), share of the area, 0 to 1.
        uniforms: (..., 2), for the centre's row and column.
        height: Of the map, pixels.
        width: Of the map, pixels.

    Returns:
        int32 (..., 4): rows y0 up to, not including, y1; columns x0 up to, not including, x1.
    """
    sides = np.sqrt(ratios)[..., None] * (height, width)
    half = sides.astype(np.int32) // 2
    limits = np.array((height, width), dtype=np.int32)
    centre = (uniforms * limits).astype(np.int32)
    low = np.maximum(centre - half, 0)
    high = np.minimum(centre + half, limits)
    return np.stack((low[..., 0], high[..., 0], low[..., 1], high[..., 1]), axis=-1)


def draw_stacks(ratios: Floats, coins: Floats, height: int, width: int, axis: int) -> Boxes:
    """Boxes that split one axis and span the other; a fair coin says which side is inside.

    It is the first int(ratio * size) lines, or those from int((1 - ratio) * size) on, which may be one line more: the
    authors' implementation turns the ratio into 1 - ratio and swaps the sides.

    Args:
        ratios: (...), share of the area, 0 to 1.
        coins: (...), uniform numbers.
        height: Of the map, pixels.
        width: Of the map, pixels.
        axis: 0 splits the rows, 1 the columns.

    Returns:
        int32 (..., 4), as `draw_boxes`.
    """
    box = np.zeros((*ratios.shape, 4), dtype=np.int32)
    box[..., 1], box[..., 3] = height, width
    size = (height, width)[axis]
    first = coins < 0.5
    box[..., 2 * axis] = np.where(first, 0, (1 - ratios) * size).astype(np.int32)
    box[..., 2 * axis + 1] = np.where(first, ratios * size, size).astype(np.int32)
    return box


def box_area(boxes: Boxes, height: int, width: int) -> Floats:
    """Share of the map inside each box: (..., 4) -> float64 (...)."""
    return (boxes[..., 1] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 2]) / (height * width)


def in_boxes(boxes: Boxes, height: int, width: int) -> NDArray[np.bool_]:
    """Which pixels of the map are inside each box: (..., 4) -> bool (..., height, width)."""
    y0, y1, x0, x1 = (boxes[..., side, None] for side in range(4))
    y, x = np.arange(height), np.arange(width)
    rows, columns = (y >= y0) & (y < y1), (x >= x0) & (x < x1)
    return rows[..., :, None] & columns[..., None, :]


def overlap_area(first: Boxes, second: Boxes, height: int, width: int) -> Floats:
    """Share of the map inside both boxes: two (..., 4) -> float64 (...)."""
    rows = np.minimum(first[..., 1], second[..., 1]) - np.maximum(first[..., 0], second[..., 0])
    columns = np.minimum(first[..., 3], second[..., 3]) - np.maximum(first[..., 2], second[..., 2])
    return np.maximum(rows, 0) * np.maximum(columns, 0) / (height * width)


def member_weights(kappas: Floats, root: float) -> Floats:
    """Loss weights w_m = M * kappa_m^(1/r) / sum_j kappa_j^(1/r) (the paper's reweighting of unequal ratios).

    Args:
        kappas: (..., M), at least one of them positive.
        root: r > 0; the published runs use 3. With r = 1 the weights are M * kappa_m.

    Returns:
        float64 (..., M), which sum to M over the last axis.
    """
    relative = kappas / kappas.max(axis=-1, keepdims=True)  # so that a small root cannot underflow all of them to 0
    if root in (1, 3):  # those of the published runs, the same on every processor as no power is
        powers = relative if root == 1 else cube_root(relative)
    else:
        powers = relative ** (1.0 / root)
    return kappas.shape[-1] * powers / powers.sum(axis=-1, keepdims=True)


def patch_probability(prob: float, decay_from: float, epoch: int, epochs: int) -> float:
    """Probability of patch mixing in an epoch counted from 1: constant, then linear to 0 in the last epoch."""
    progress = epoch / epochs
    if progress < decay_from or decay_from >= 1.0:
        return prob
    return prob * max(0.0, (1.0 - progress) / (1.0 - decay_from))
