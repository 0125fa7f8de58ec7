"""The bilinear resize of a box of an image to the image's size, in whole numbers: what Pillow makes of it, to the byte.

Output pixel x of a side of n pixels has its middle (2 x + 1) * length / (2 n) pixels from the edge of a box of that
length, so it lies between the middles of two of the box's pixels, of which the upper one has the share
((2 x + 1) * length - n) / (2 n) mod 1; beyond the outermost middles the edge goes on (half-pixel centres, as torch's
`align_corners=False`). Shares are rounded to 22 bits. First each line of the box is resized across, to bytes, then each
column down. As a box lies in its image, it is never made smaller, so two neighbours are all that there is and no
antialiasing has a say.

This is `torchvision.transforms.functional.resized_crop` on a PIL image, which the `reference` pipeline calls; Pillow
finds the same shares in float64 before it rounds them (its `Resample.c`), and none is near enough to the middle between
two numbers of 22 bits for that to matter. All others take the tables of `resize_taps` and `blend`'s arithmetic.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SHARE_BITS = 22
SHARE_ONE = 1 << SHARE_BITS


@lru_cache(maxsize=8)
def resize_taps(side: int) -> NDArray[np.int32]:
    """Where the pixels of a side come from, for a box of each length.

    Args:
        side: n, pixels.

    Returns:
        int32 (2, n + 1, n), read-only: by length and output pixel, the lower neighbour, counted from the box's edge,
        and the share of the one above it, of `SHARE_ONE`. The outermost pixel of a box is its own neighbour. Length 0
        is none.
    """
    length, x = np.arange(side + 1, dtype=np.int64)[:, None], np.arange(side, dtype=np.int64)
    place = np.maximum((2 * x + 1) * length - side, 0)  # of the middle, in parts of 2 n to a pixel
    lower, part = np.divmod(place, 2 * side)
    taps = np.stack((lower, (part * SHARE_ONE + side) // (2 * side))).astype(np.int32)
    taps.setflags(write=False)  # shared between calls
    return taps
