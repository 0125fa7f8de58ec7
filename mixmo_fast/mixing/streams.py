"""Random numbers that depend on where they are used, not on when they are drawn.

Each purpose (crop offsets, mixing ratios, ...) of each epoch has a Philox stream of its own, keyed by (seed, epoch,
purpose); step s of the epoch owns a fixed stretch of it. So any step can be drawn alone, many steps can be drawn in
one call, and both give the same numbers. Only Philox's raw words are taken from numpy: those are guaranteed to be
the same in every numpy release (NEP 19), which its distributions are not.

What belongs to an image, not to a row, is drawn by a number: such a stream has a stretch for every step and number.

Shapes: S steps, D pairs of a step and a number.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mixmo_fast.mixing.philox import WORDS_PER_COUNT, words_at


class Purpose(IntEnum):
    """What a stream is used for. The values are part of the format: changing one changes every run."""

    EPOCH_ORDER = 1
    ROW_ORDER = 2
    CROP = 3
    FLIP = 4
    MIXING_METHOD = 5
    MIXING_RATIO = 6
    MIXING_BOX = 7
    MIXING_ROLE = 8
    MSDA_CHOICE = 9
    MSDA_RATIO = 10
    MSDA_BOX = 11
    MSDA_PARTNER = 12
    MIXING_PATTERN = 13
    MSDA_PATTERN = 14
    HOLDOUT = 15
    AUGMIX = 16
    REPLACEMENT_BOX = 17
    REPLACEMENT_PATTERN = 18
    RESIZED_CROP = 19


def words(
    seed: int, epoch: int, purpose: Purpose, first_step: int, steps: int, shape: tuple[int, ...]
) -> NDArray[np.uint64]:
    """Raw 64-bit words for some consecutive steps of an epoch.

    Args:
        seed: The run's seed, 0 <= seed < 2**64.
        epoch: Counted from 1.
        purpose: Which stream.
        first_step: Counted from 0 within the epoch.
        steps: S, how many steps.
        shape: What one step needs; must be the same for every call on one stream.

    Returns:
        uint64 of shape (S, *shape).
    """
    count = int(np.prod(shape, dtype=np.int64))
    counts_per_step = -(-count // WORDS_PER_COUNT)
    counter = np.array([first_step * counts_per_step, 0, 0, 0], dtype=np.uint64)
    key = np.array([seed, (epoch << 8) | purpose], dtype=np.uint64)
    raw = np.random.Philox(key=key, counter=counter).random_raw(steps * counts_per_step * WORDS_PER_COUNT)
    return raw.reshape(steps, -1)[:, :count].reshape(steps, *shape)


def uniform(
    seed: int, epoch: int, purpose: Purpose, first_step: int, steps: int, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Uniform numbers in the open interval (0, 1), so that logarithms of them are finite. Arguments as `words`.

    Returns:
        float64 of shape (S, *shape); odd multiples of 2**-53.
    """
    return as_uniforms(words(seed, epoch, purpose, first_step, steps, shape))


def as_uniforms(raw: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Raw words as uniform numbers in the open interval (0, 1): float64, odd multiples of 2**-53."""
    # The top 52 bits plus a half step: exact in float64, never 0 and never 1.
    return ((raw >> np.uint64(12)) + np.float64(0.5)) * 2.0**-52


def words_by_number(
    seed: int, epoch: int, purpose: Purpose, step: NDArray[np.int64], number: NDArray[np.int64], count: int
) -> NDArray[np.uint64]:
    """Raw 64-bit words that depend on a number (of an image, say), the step and the epoch, and on nothing else.

    Args:
        seed: The run's seed, 0 <= seed < 2**64.
        epoch: Counted from 1.
        purpose: Which stream; no other function may read it.
        step: (D,), counted from 0 within the epoch.
        number: (D,), at least 0.
        count: Words of each pair, the same for every call on one stream.

    Returns:
        uint64 of shape (D, count).
    """
    return words_at((seed, (epoch << 8) | purpose), number.astype(np.uint64), step.astype(np.uint64), count)


def integers(uniforms: NDArray[np.float64], limit: int | NDArray[np.int64]) -> NDArray[np.int32]:
    """Maps uniform numbers to integers 0 <= i < limit (bias below 2**-52 * limit: nothing measurable)."""
    return (uniforms * limit).astype(np.int32)


def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int32]:
    """The epoch's order of `count` images: a uniform permutation, int32 of shape (count,)."""
    keys = words(seed, epoch, Purpose.EPOCH_ORDER, 0, 1, (count,))[0]
    return np.argsort(keys, kind="stable").astype(np.int32)


@dataclass(frozen=True)
class Draw:
    """Where the numbers come from: the streams of some steps of one epoch."""

    seed: int
    epoch: int
    first_step: int
    steps: int

    def at(self, step: int) -> "Draw":
        """The streams of one of the steps, counted from 0."""
        return Draw(self.seed, self.epoch, self.first_step + int(step), 1)

    def uniform(self, purpose: Purpose, *shape: int) -> NDArray[np.float64]:
        """float64 (S, *shape) in (0, 1)."""
        return uniform(self.seed, self.epoch, purpose, self.first_step, self.steps, shape)

    def words(self, purpose: Purpose, *shape: int) -> NDArray[np.uint64]:
        """uint64 (S, *shape)."""
        return words(self.seed, self.epoch, purpose, self.first_step, self.steps, shape)
