"""The decisions of AugMix (Hendrycks et al. 2020, arXiv 1912.02781): which operations an image goes through, and how.

Three chains of one to three operations each start from the image; their results are mixed with Dirichlet weights, and
that mixture with the image itself. An image has one such transform in a step, whether it is there as a repeat, for
several members or as a partner: its numbers come from a place of their own, given by seed, epoch, step and the image's
number alone. So it does not matter which images are drawn together, in which order, or by which of several processes.
The pixels are moved elsewhere (`pipelines.augmix`).

Shapes: D pairs of a step and an image, 3 chains, 3 operations of a chain at most.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixmo_fast.mixing import ratios
from mixmo_fast.mixing.streams import Purpose, as_uniforms, integers, words_of_images

CHAINS = 3
MOST_OPERATIONS = 3
SEVERITY = 3.0
"""The largest level of an operation, on a scale of 10."""

_LOWEST_LEVEL = 0.1
_PAIRS = CHAINS * MOST_OPERATIONS
_WORDS = CHAINS + 3 * _PAIRS + CHAINS + 1


class Operation(IntEnum):
    """What may happen to an image in a chain. The values are part of the format: changing one changes runs."""

    IDENTITY = 0
    EQUALIZE = 1
    POSTERIZE = 2
    ROTATE = 3
    SOLARIZE = 4
    SHEAR_X = 5
    SHEAR_Y = 6
    TRANSLATE_X = 7
    TRANSLATE_Y = 8
    INVERT = 9


NO_OPERATION = -1
"""Stands behind a chain's last operation."""


@dataclass(frozen=True)
class AugmixPlan:
    """The transforms of D images: (1 - mixed) * image + mixed * sum over the chains of chain_weight * chain(image).

    Attributes:
        operation: int8 (D, 3, 3), an `Operation`, or `NO_OPERATION` from the chain's depth on.
        level: float64 (D, 3, 3), strength of each operation, uniform between 0.1 and `SEVERITY` of 10.
        sign: int8 (D, 3, 3), 1 or -1, which way rotations, shears and translations go.
        chain_weight: float64 (D, 3), from Dirichlet(1, 1, 1).
        mixed: float64 (D,), the share that is not the image itself, from Beta(1, 1).
    """

    operation: NDArray[np.int8]
    level: NDArray[np.float64]
    sign: NDArray[np.int8]
    chain_weight: NDArray[np.float64]
    mixed: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.mixed)


def draw_augmix(seed: int, epoch: int, step: ArrayLike, images: NDArray[np.int32]) -> AugmixPlan:
    """The transforms that some images have in a step, or in the steps given beside them.

    Args:
        seed: 0 <= seed < 2**63.
        epoch: Counted from 1.
        step: Counted from 0 within the epoch; one for all images, or int (D,).
        images: int32 (D,), numbers of the images in the whole data set.
    """
    raw = words_of_images(seed, epoch, Purpose.AUGMIX, step, images, _WORDS)
    depth, which, level, sign, weight, mixed = np.split(
        as_uniforms(raw), np.cumsum((CHAINS, _PAIRS, _PAIRS, _PAIRS, CHAINS)), axis=1
    )
    shape = (len(images), CHAINS, MOST_OPERATIONS)
    beyond = np.arange(MOST_OPERATIONS) > integers(depth, MOST_OPERATIONS)[..., None]
    operation = integers(which, len(Operation)).reshape(shape)
    return AugmixPlan(
        operation=np.where(beyond, NO_OPERATION, operation).astype(np.int8),
        level=(_LOWEST_LEVEL + (SEVERITY - _LOWEST_LEVEL) * level).reshape(shape),
        sign=np.where(sign < 0.5, -1, 1).astype(np.int8).reshape(shape),
        chain_weight=ratios.dirichlet(1.0, weight[..., None]),
        mixed=mixed[:, 0],  # Beta(1, 1) is uniform
    )
