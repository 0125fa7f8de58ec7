"""The decisions of AugMix (Hendrycks et al. 2020, arXiv 1912.02781) as the authors of MixMo use it.

Three chains of one to four operations each start from an image as it is after crop and flip; their results are mixed
with Dirichlet weights, and that mixture with the image itself. How strong an operation is never changes, only which way
it goes. With several members an image has one such transform for each of them in a step: its repeats share it, and a
partner takes that of the image it is mixed into. The numbers come from a place of their own, given by seed, epoch,
step, image and member, so it does not matter which are drawn together, or by which of several processes. A single
network draws anew for every occurrence. The pixels are moved elsewhere (`pipelines.assembly.augmix`).

Shapes: S steps, B rows, M members, P = 2 (image, partner), `...` any leading axes, 3 chains, 4 operations of one at
most.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mixmo_fast.mixing import ratios
from mixmo_fast.mixing.recipe import Recipe
from mixmo_fast.mixing.streams import Purpose, as_uniforms, integers, words_by_number

CHAINS = 3
MOST_OPERATIONS = 4

# What the authors' implementation makes of severity 3 on AugMix's scales of 30: constants, never drawn.
ROTATE_DEGREES = 3.0
SHEAR = 0.03
TRANSLATE_SHARE = 0.045  # of the image's side
POSTERIZE_BITS = 4  # that are kept
SOLARIZE_FROM = 25.6  # on grey levels of 0 to 255

_PAIRS = CHAINS * MOST_OPERATIONS
_WORDS = CHAINS + 2 * _PAIRS + CHAINS + 1


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
    """Transforms of images: (1 - blend) * image + blend * sum over the chains of chain_weight * chain(image).

    Attributes:
        operation: int8 (..., 3, 4), an `Operation`, or `NO_OPERATION` from the chain's depth on.
        sign: int8 (..., 3, 4), 1 or -1, which way rotations, shears and translations go.
        chain_weight: float32 (..., 3), from Dirichlet(1, 1, 1).
        blend: float32 (...), the share that is not the image itself, from Beta(1, 1).
    """

    operation: NDArray[np.int8]
    sign: NDArray[np.int8]
    chain_weight: NDArray[np.float32]
    blend: NDArray[np.float32]

    def at(self, place: int | slice | tuple[int | slice, ...] | NDArray[np.integer]) -> "AugmixPlan":
        """Those at an index, or indices, into the leading axes."""
        return self.each(lambda values: values[place])

    def each(self, change: Callable[[NDArray], NDArray]) -> "AugmixPlan":
        """With the leading axes of all arrays changed alike."""
        return AugmixPlan(*(change(getattr(self, field.name)) for field in fields(self)))


def draw_augmix(recipe: Recipe, seed: int, epoch: int, first_step: int, index: NDArray[np.int32]) -> AugmixPlan:
    """The transform of each occurrence of an image in S consecutive steps.

    Args:
        recipe: What the run is; `parts` and `part` say which of the steps' rows these are.
        seed: 0 <= seed < 2**63.
        epoch: Counted from 1.
        first_step: Counted from 0 within the epoch.
        index: int32 (S, B, M, P), as in the steps' plans.

    Returns:
        A plan whose leading axes are (S, B, M, P).
    """
    _, rows, members, both = index.shape
    if members == 1:
        first = recipe.part * rows * both
        number = np.broadcast_to((first + np.arange(rows * both)).reshape(rows, 1, both), index.shape)
    else:
        number = np.broadcast_to((index[..., :1].astype(np.int64) * members) + np.arange(members)[:, None], index.shape)
    step = np.broadcast_to(first_step + np.arange(len(index))[:, None, None, None], index.shape)
    # Repeats and partners share what is drawn: each pair of a step and a number once.
    most = int(number.max()) + 1
    keys, place = np.unique(step * most + number, return_inverse=True)
    return _draw(seed, epoch, keys // most, keys % most).at(place.reshape(index.shape))


def _draw(seed: int, epoch: int, step: NDArray[np.int64], number: NDArray[np.int64]) -> AugmixPlan:
    """The transforms of D pairs of a step and a number."""
    raw = words_by_number(seed, epoch, Purpose.AUGMIX, step, number, _WORDS)
    depth, which, sign, weight, blend = np.split(as_uniforms(raw), np.cumsum((CHAINS, _PAIRS, _PAIRS, CHAINS)), axis=1)
    shape = (len(number), CHAINS, MOST_OPERATIONS)
    beyond = np.arange(MOST_OPERATIONS) > integers(depth, MOST_OPERATIONS)[..., None]
    operation = integers(which, len(Operation)).reshape(shape)
    return AugmixPlan(
        operation=np.where(beyond, NO_OPERATION, operation).astype(np.int8),
        sign=np.where(sign < 0.5, -1, 1).astype(np.int8).reshape(shape),
        chain_weight=ratios.dirichlet(1.0, weight[..., None]).astype(np.float32),
        blend=blend[:, 0].astype(np.float32),  # Beta(1, 1) is uniform
    )
