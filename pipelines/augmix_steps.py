"""AugMix of some training steps: which images they need, each once, how those are transformed, and where each is used.

A step's plan names images of the data set. With AugMix a step is made from images of its own instead: the distinct ones
that it names, transformed; so the indices are replaced by places among those, and all that comes behind stays as it is.

Shapes: N images of the data set, S steps, B rows, M members, P = 2 (image, partner), D images that the steps need (one
that several steps need counts in each), H W pixels, C channels.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixmo_fast.mixing.augmix import draw_augmix
from pipelines.augmix import Transforms, apply_by_torch, fixed_point, send

_IMAGES_PER_PIECE = 64  # what one core works on at a time: a millisecond or two for CIFAR's


@dataclass(frozen=True)
class StepImages:
    """The transformed images of S consecutive steps.

    Attributes:
        source: int32 (D,), which of the images at hand each is made from; a step's images stand together, ascending.
        bounds: int64 (S + 1,), where each step's images begin, and D.
        place: int32 (S, B, M, P), which of the D images each occurrence is.
        transforms: Of the D images.
    """

    source: NDArray[np.int32]
    bounds: NDArray[np.int64]
    place: NDArray[np.int32]
    transforms: Transforms

    def __len__(self) -> int:
        return len(self.source)

    def of(self, steps: slice) -> "StepImages":
        """Those of some consecutive steps, in places that count from 0."""
        bounds = self.bounds[steps.start : min(steps.stop, len(self.place)) + 1]
        images = slice(bounds[0], bounds[-1])
        place = self.place[steps] - np.int32(bounds[0])
        return StepImages(self.source[images], bounds - bounds[0], place, self.transforms.of(images))

    def in_pool(self, place: NDArray[np.int32]) -> "StepImages":
        """The same where the images at hand are not the data set, but some of it: `place` (N,) says where each is."""
        return replace(self, source=place[self.source])


def draw_step_images(
    seed: int, epoch: int, first_step: int, index: NDArray[np.int32], size: tuple[int, int]
) -> StepImages:
    """The images of S steps and their transforms.

    Args:
        seed: Of the plans.
        epoch: Counted from 1.
        first_step: Number of the first step within the epoch, from 0.
        index: int32 (S, B, M, P), as in the steps' plan, numbers of images in the whole data set.
        size: (H, W).
    """
    steps = np.arange(len(index), dtype=np.int64)
    most = int(index.max()) + 1
    keys, place = np.unique(steps[:, None, None, None] * most + index, return_inverse=True)
    step, source = keys // most, (keys % most).astype(np.int32)
    bounds = np.searchsorted(step, np.arange(len(index) + 1))
    transforms = fixed_point(draw_augmix(seed, epoch, first_step + step, source), *size)
    return StepImages(source, bounds, place.reshape(index.shape).astype(np.int32), transforms)


def transform_on_cpu(
    images: NDArray[np.uint8], steps: StepImages, threads: ThreadPoolExecutor
) -> tuple[NDArray[np.uint8], list[Future[None]]]:
    """Has threads transform the images that some steps need.

    Args:
        images: uint8 (N, H, W, C), which `steps.source` counts in.
        steps: Which of them, and how.
        threads: Who does it.

    Returns:
        uint8 (D, H, W, C), which is complete when all of the futures are done.
    """
    from pipelines.augmix_kernels import augment_images  # numba, which a GPU's pipeline has no use for

    out = np.empty((len(steps), *images.shape[1:]), dtype=np.uint8)
    arrays = steps.source, steps.transforms.kind, steps.transforms.number, steps.transforms.weight
    pieces = [
        threads.submit(augment_images, images, *arrays, out, first, min(first + _IMAGES_PER_PIECE, len(steps)))
        for first in range(0, len(steps), _IMAGES_PER_PIECE)
    ]
    return out, pieces


def transform_by_torch(images: Tensor, steps: StepImages, most: int) -> tuple[Tensor, Tensor]:
    """The images that some steps need, transformed by torch, without waiting for the device.

    Args:
        images: uint8 (N, H, W, C), which `steps.source` counts in.
        steps: Which of them, and how.
        most: Images to make room for, so that compiled code sees one shape; what is behind the last is not set.

    Returns:
        uint8 (most, H, W, C) and the places int32 (S, B, M, P), on the device of `images`.
    """
    source, place = send((steps.source, steps.place), images.device)
    out = torch.empty((most, *images.shape[1:]), dtype=torch.uint8, device=images.device)
    apply_by_torch(images.index_select(0, source), steps.transforms, out[: len(steps)])
    return out, place.int()


def each_step(
    images: NDArray[np.uint8], steps: StepImages, threads: ThreadPoolExecutor
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int32]]]:
    """The transformed images (D', H, W, C) and places (B, M, P) of one step after the other, made ahead by threads."""
    parts = [steps.of(slice(step, step + 1)) for step in range(len(steps.place))]
    started = [transform_on_cpu(images, part, threads) for part in parts]
    for part, (out, pieces) in zip(parts, started, strict=True):
        for piece in pieces:
            piece.result()
        yield out, part.place[0]
