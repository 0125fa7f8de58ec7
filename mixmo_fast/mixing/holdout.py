"""Which training images a run keeps out of its training, so that something can be fitted on them afterwards.

The choice is uniform, without replacement, and depends on the seed and the numbers alone: neither the pipeline nor the
epoch has a say, and whoever knows the run's configuration can name the images again.

Shapes: N images of the training set, H of them held out.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mixmo_fast.mixing.streams import Purpose, words


def held_out_images(images: int, held_out: int, seed: int) -> NDArray[np.int32]:
    """The H images that are kept out of training: int32 (H,), ascending."""
    return _split(images, held_out, seed)[0]


def training_images(images: int, held_out: int, seed: int) -> NDArray[np.int32]:
    """The others: int32 (N - H,), ascending, read-only."""
    return _split(images, held_out, seed)[1]


@lru_cache(maxsize=4)
def _split(images: int, held_out: int, seed: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    order = np.argsort(words(seed, 0, Purpose.HOLDOUT, 0, 1, (images,))[0], kind="stable").astype(np.int32)
    parts = np.sort(order[:held_out]), np.sort(order[held_out:])
    for part in parts:
        part.setflags(write=False)  # shared between calls
    return parts
