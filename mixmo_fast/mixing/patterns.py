"""Masks that no box describes: the other families that the authors' implementation offers.

A pattern says for each place how much of it lies inside, in steps of 1/128: 128 is inside, 0 outside, and only `noise`
has values between. (A power of two, so that every device makes the same float32 of the byte.) It is either one map for
all channels, (1, h, w), or constant over the map and different in each channel, (C, 1, 1); only where steps of both
kinds alternate do all have (C, h, w). With a mask's two values (inside, outside) it is the mask. Families by name:

- `cow`: Gaussian noise, blurred, and thresholded at a random level (CowMask, French et al. 2020, arXiv 2003.12022);
- `noise`: uniform noise, shifted to the wanted mean;
- `patchuphard`, `patchupsoft`: blocks around random seeds (PatchUp, Faramarzi et al. 2020, arXiv 2006.07794); outside
  of them the soft one keeps the ratio instead of 0;
- `channel`: a coin for each channel; `stackchannel`: the first or the last channels.

`patchuphard` is what the authors' implementation calls `patchuphard2d`: one set of seeds for all channels. Its own
`patchuphard` and `patchupsoft` draw seeds for each channel, which nothing here does; its files that ask for them are
refused.

Shapes: n patterns, C channels, h w pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixmo_fast.mixing.methods import COW_SHARE, COW_SIGMA, MASKS, PATCHUP_BLOCK

Floats = NDArray[np.float64]
Pattern = NDArray[np.uint8]
Size = tuple[int, int, int]

INSIDE = 128

_COW_REACH = 3 * COW_SIGMA[1]  # pixels at which the blur is cut off, whatever its sigma


def pattern_shape(method: str, channels: int, height: int, width: int) -> Size:
    """(c, h, w) of one pattern of a method; all 0 for a method that has none."""
    return {"map": (1, height, width), "channels": (channels, 1, 1)}.get(MASKS[method].place, (0, 0, 0))


def uniforms_per_pattern(method: str, channels: int, height: int, width: int) -> int:
    """How many uniform numbers `draw_patterns` consumes for one pattern."""
    return _FAMILIES[method].uniforms(channels, height, width)


def draw_patterns(
    method: str, ratios: Floats, uniforms: Floats, channels: int, height: int, width: int
) -> tuple[Pattern, Floats]:
    """Draws n patterns of one family.

    Args:
        method: Whose place is a map, or in channels.
        ratios: (n,), the mean that the mask should have; `cow` draws a level of its own instead.
        uniforms: (n, `uniforms_per_pattern`), in the open interval (0, 1).
        channels: C, of the features or images that are mixed.
        height: h, pixels.
        width: w, pixels.

    Returns:
        Patterns uint8 (n, c, h, w) or (n, C, 1, 1), and the masks' values (inside, outside), float64 (n, 2). The mean
        that came out may differ from the one asked for.
    """
    values = np.zeros((len(ratios), 2))
    values[:, 0] = 1.0
    if method == "patchupsoft":
        values[:, 1] = ratios
    pattern = _FAMILIES[method].draw(ratios, uniforms, channels, height, width)
    return pattern.reshape(-1, *pattern_shape(method, channels, height, width)), values


def _cow(ratios: Floats, uniforms: Floats, channels: int, height: int, width: int) -> Pattern:
    from scipy.special import ndtri  # imported here, as others need no scipy, which takes a sixth of a second

    low, high = COW_SHARE
    share = low + (high - low) * uniforms[:, 0]
    low, high = np.log(COW_SIGMA)
    sigma = np.exp(low + (high - low) * uniforms[:, 1])
    noise = ndtri(uniforms[:, 2:]).reshape(-1, height, width)
    blurred = _blur_matrix(sigma, height) @ noise @ _blur_matrix(sigma, width)
    mean = blurred.mean(axis=(1, 2), keepdims=True)
    deviation = blurred.std(axis=(1, 2), keepdims=True, ddof=1)
    return (blurred <= mean + deviation * ndtri(share)[:, None, None]) * np.uint8(INSIDE)


def _blur_matrix(sigma: Floats, size: int) -> Floats:
    """Convolution along one axis with a Gaussian that sums to 1 and meets zeros beyond the map: (n, size, size)."""
    distance = np.arange(size)[:, None] - np.arange(size)
    reach = np.arange(-_COW_REACH, _COW_REACH + 1)
    scale = -0.5 / sigma**2
    total = np.exp(reach**2 * scale[:, None]).sum(axis=1)
    weight = np.exp(distance**2 * scale[:, None, None]) / total[:, None, None]
    return weight * (np.abs(distance) <= _COW_REACH)


def _noise(ratios: Floats, uniforms: Floats, channels: int, height: int, width: int) -> Pattern:
    # Shifting can leave [0, 1], where a mask has to stay; the mean that came out is the one that counts.
    shifted = uniforms + (ratios - uniforms.mean(axis=1))[:, None]
    return np.rint(np.clip(shifted, 0, 1) * INSIDE).astype(np.uint8).reshape(-1, height, width)


def _patchup(ratios: Floats, uniforms: Floats, channels: int, height: int, width: int) -> Pattern:
    block = PATCHUP_BLOCK
    valid = (height - block + 1) * (width - block + 1)
    seed_probability = ratios * height * width / (block**2 * valid)
    seeds = (uniforms < seed_probability[:, None]).reshape(-1, height, width)
    # The dilation by a square is one along the rows, then one along the columns.
    reach = block // 2
    for axis in (1, 2):
        before, size = seeds, seeds.shape[axis]
        padded = np.pad(before, [(reach, reach) if a == axis else (0, 0) for a in range(3)])
        seeds = np.logical_or.reduce([padded.take(range(k, k + size), axis=axis) for k in range(block)])
    return seeds * np.uint8(INSIDE)


def _channel(ratios: Floats, uniforms: Floats, channels: int, height: int, width: int) -> Pattern:
    return (uniforms < ratios[:, None]) * np.uint8(INSIDE)


def _stackchannel(ratios: Floats, uniforms: Floats, channels: int, height: int, width: int) -> Pattern:
    # The first int(ratio * C) channels, or those from int((1 - ratio) * C) on.
    first, rest = ((share * channels).astype(np.int64)[:, None] for share in (ratios, 1 - ratios))
    channel = np.arange(channels)
    return np.where(uniforms < 0.5, channel < first, channel >= rest) * np.uint8(INSIDE)


@dataclass(frozen=True)
class _Family:
    """How a family is drawn.

    Attributes:
        uniforms: (C, h, w) -> how many uniform numbers a pattern consumes.
        draw: ratios (n,), uniforms (n, as many), C, h, w -> patterns uint8, n maps of h x w or n rows of C.
    """

    uniforms: Callable[[int, int, int], int]
    draw: Callable[[Floats, Floats, int, int, int], Pattern]


def _one_a_pixel(channels: int, height: int, width: int) -> int:
    return height * width


_FAMILIES = {
    "cow": _Family(lambda channels, height, width: height * width + 2, _cow),
    "noise": _Family(_one_a_pixel, _noise),
    "patchuphard": _Family(_one_a_pixel, _patchup),
    "patchupsoft": _Family(_one_a_pixel, _patchup),
    "channel": _Family(lambda channels, height, width: channels, _channel),
    "stackchannel": _Family(lambda channels, height, width: 1, _stackchannel),
}
