"""Images of your own, in memory or behind a torch `Dataset`, for a training loop of your own.

Nothing is converted and no configuration is needed: a `Recipe` says which rows, masks and augmentation.

Shapes: N images, C = 3 channels, H W pixels, B rows of a step, M members.
"""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Union

import numpy as np
import torch
from torch import Tensor

from mixmo_fast.api.parts import device_of
from mixmo_fast.batch import TrainingBatches
from mixmo_fast.errors import DataError
from mixmo_fast.mixing.recipe import Recipe
from mixmo_fast.training.precision import choose_precision
from pipelines.assembly.assemble import normalisation_table
from pipelines.items import ItemDataset, ItemImages, ItemLabels, Items
from pipelines.reference import ReferenceTraining
from pipelines.resident import ResidentTraining

if TYPE_CHECKING:
    from numpy.typing import NDArray

Images = Union["NDArray[np.uint8]", Tensor]


@contextmanager
def batches_of(
    images: Images | ItemDataset,
    labels: "NDArray[np.integer] | Tensor | Sequence[int] | None",
    recipe: Recipe,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 1,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
    workers: int | None = None,
) -> Iterator[TrainingBatches]:
    """The batches of any epoch from images of your own: the same as a converted data set gives, to the last bit.

    ```python
    recipe = mf.Recipe(
        images=len(images), rows=64, repetitions=2, members=2, image_size=(32, 32), map_size=(32, 32),
        crop_padding=4, flip=True, epochs=30,
        mixing=mf.ManifoldMixing("patch", prob=0.5, alpha=2.0, weight_root=3.0, decay_from=11 / 12),
        msda=mf.InputMixing("cutmix", prob=0.5, beta=1.0),
    )
    with mf.batches_of(images, labels, recipe) as batches:
        for batch in batches.epoch(1):
            logits = network(batch.images, network.masks(batch))
            loss = mf.soft_cross_entropy(logits, batch.labels, batch.share, batch.weight)
    ```

    Arrays lie in the device's memory, and one kernel makes each batch; items of a torch `Dataset` are made by worker
    processes, so a script that reads one keeps its main part under `if __name__ == "__main__"`.

    Args:
        images: Bytes (uint8): an array N x H x W x C or N x H x W, or a tensor N x C x H x W; or a map-style
            `Dataset` of pairs (image, class), its images Pillow's or bytes, neither augmented nor normalised.
        labels: N classes from 0; None with a `Dataset`, whose items have them.
        recipe: Which rows, masks and augmentation, for so many images of one size.
        mean: Of each channel, of pixels scaled to 0..1; None: that of the array (`mean_and_std`).
        std: What the difference is divided by; None likewise.
        seed: Of everything random, 0 <= seed < 2**63.
        device: Where the batches are made: `cpu`, `cuda`, `auto`, or one of torch's.
        precision: Of the images: `fp32`, or as autocast will want them: `bf16`, `fp16`, `auto`.
        workers: Processes that read a `Dataset`; None: as many as there are cores, 0: this one.

    Raises:
        DataError: Images or labels that are no such thing, or contradict the recipe.
        ConfigError: An unknown precision.
        DeviceError: For what this machine does not have.
    """
    place = device_of(device)
    dtype = choose_precision(precision, place).image_dtype
    if isinstance(images, np.ndarray | Tensor):
        pixels, classes = _arrays(images, labels, recipe)
        if mean is None or std is None:
            mean, std = mean_and_std(pixels)
        table = normalisation_table(mean, std)
        training: TrainingBatches = ResidentTraining(pixels, classes, table, recipe, seed, place, dtype)
    else:
        if labels is not None:
            raise DataError("labels: found some beside a Dataset, allowed: None, for its items have their own")
        if mean is None or std is None:
            raise DataError("mean, std: missing with a Dataset, allowed: three numbers each, of pixels scaled to 0..1")
        if len(images) != recipe.images:
            raise DataError(f"recipe.images: found {recipe.images}, allowed: {len(images)}, as the Dataset has items")
        items = Items(images, recipe.image_size)
        if workers != 0:
            _require_pickle(items)
        training = ReferenceTraining(
            ItemImages(items), ItemLabels(items), mean, std, recipe, seed, place, dtype, workers
        )
    with closing(training):
        yield training


def mean_and_std(images: Images) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """The mean and standard deviation of each channel, of pixels scaled to 0..1, exact to rounding.

    ```python
    mean, std = mf.mean_and_std(train_images)
    ```

    Args:
        images: Bytes, as for `batches_of`.

    Raises:
        DataError: They are no such thing.
    """
    pixels = _pixels(images)
    counts = np.stack([np.bincount(pixels[..., channel].ravel(), minlength=256) for channel in range(3)])
    byte = np.arange(256) / 255
    mean = counts @ byte / counts.sum(axis=1)
    std = np.sqrt((counts * (byte - mean[:, None]) ** 2).sum(axis=1) / counts.sum(axis=1))
    red, green, blue = mean.tolist()
    return (red, green, blue), tuple(std.tolist())


def normalise(images: Images, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Images as a network takes them at test time: float32 (N, C, H, W), channels innermost in memory.

    ```python
    logits = network(mf.normalise(test_images, mean, std).to(device))  # N x M x K
    ```

    Args:
        images: Bytes, as for `batches_of`.
        mean: Of each channel, of pixels scaled to 0..1.
        std: What the difference is divided by.

    Raises:
        DataError: They are no such thing.
    """
    table, pixels = normalisation_table(mean, std), _pixels(images)
    normal = np.stack([table[channel][pixels[..., channel]] for channel in range(3)], axis=-1)
    return torch.from_numpy(normal).permute(0, 3, 1, 2)


def _arrays(
    images: Images, labels: "NDArray[np.integer] | Tensor | Sequence[int] | None", recipe: Recipe
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, H, W, C) and labels int64 (N,), checked against the recipe."""
    pixels = _pixels(images)
    classes = np.asarray(labels.numpy(force=True) if isinstance(labels, Tensor) else labels)
    if classes.shape != pixels.shape[:1] or not np.issubdtype(classes.dtype, np.integer) or (classes < 0).any():
        raise DataError(
            f"labels: found {classes.dtype} of shape {classes.shape}, allowed: {len(pixels):,} whole numbers from 0"
        )
    if len(pixels) != recipe.images:
        raise DataError(f"recipe.images: found {recipe.images:,}, allowed: {len(pixels):,}, as there are images")
    if pixels.shape[1:3] != recipe.image_size:
        raise DataError(f"recipe.image_size: found {recipe.image_size}, allowed: {pixels.shape[1:3]}, as images have")
    return pixels, classes.astype(np.int64)


def _pixels(images: Images) -> np.ndarray:
    """Bytes in any of the allowed shapes as uint8 (N, H, W, C)."""
    pixels = images
    if isinstance(pixels, Tensor):
        pixels = pixels.numpy(force=True)
        pixels = pixels.transpose(0, 2, 3, 1) if pixels.ndim == 4 else pixels
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] not in (1, 3) or not pixels.size:
        raise DataError(
            f"images: found {images.dtype} of shape {tuple(images.shape)}, allowed: bytes (uint8), an array "
            "N x H x W x C or N x H x W or a tensor N x C x H x W, of 1 or 3 channels, before normalisation"
        )
    return np.ascontiguousarray(pixels if pixels.shape[3] == 3 else pixels.repeat(3, axis=3))


def _require_pickle(items: Items) -> None:
    """Refuses what cannot be sent to worker processes before they are started."""
    try:
        pickle.dumps(items)
    except Exception as error:  # pickle raises many kinds
        reason = " ".join(str(error).split())[:150]
        raise DataError(f"the Dataset cannot be sent to worker processes ({reason}): pass workers=0") from error
