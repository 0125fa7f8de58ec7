"""Images and labels of anybody's map-style `torch.utils.data.Dataset`, as the `reference` pipeline reads them.

A pipeline asks for images and for labels by number. An item holds both, and making it may cost a file read and a
decoding, so the last few stay: all that a row needs is made once.

Shapes: C = 3 channels, H W pixels.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from mixmo_fast.errors import DataError
from pipelines.datasets.decoding import plain

_KEPT = 64  # items: more than a row of sixteen members and their partners needs


class ItemDataset(Protocol):
    """What is asked of a data set: how many items it has, and each by its number from 0: an image and its class."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sequence[Any]: ...


class Items:
    """The items of a data set, checked.

    Args:
        dataset: Its images are Pillow's, or bytes: arrays (H, W) or (H, W, C), tensors (C, H, W); grey ones are
            repeated. They are cropped, flipped and normalised here, so it should not do so itself.
        size: (H, W) that each image has to have.
    """

    def __init__(self, dataset: ItemDataset, size: tuple[int, int]):
        self._dataset, self._size = dataset, size
        self._kept: dict[int, tuple[np.ndarray, int]] = {}

    def item(self, index: int) -> tuple[np.ndarray, int]:
        """An image, uint8 (H, W, C), and its class.

        Raises:
            DataError: It is none, or of another size.
        """
        if index not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            item = self._dataset[index]
            if not isinstance(item, Sequence) or len(item) < 2:
                raise DataError(f"item {index}: found {type(item).__name__}, allowed: a pair of an image and its class")
            self._kept[index] = as_rgb(item[0], f"item {index}"), self._class(item[1], index)
            found = self._kept[index][0].shape[:2]
            if found != self._size:
                height, width = self._size
                raise DataError(f"item {index}: an image of {found[0]}x{found[1]}, allowed: {height}x{width}")
        return self._kept[index]

    @staticmethod
    def _class(label: Any, index: int) -> int:
        try:
            number = int(label)
        except (TypeError, ValueError):
            number = -1
        if number < 0 or number != label:
            raise DataError(f"item {index}: class {label!r:.60}, allowed: a whole number from 0")
        return number


class ItemImages:
    """The images of items, by number."""

    def __init__(self, items: Items):
        self._items = items

    def __getitem__(self, index: int) -> np.ndarray:
        """One image, uint8 (H, W, C)."""
        return self._items.item(int(index))[0]


class ItemLabels:
    """The classes of items, by numbers."""

    def __init__(self, items: Items):
        self._items = items

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Classes int64, in the shape of the numbers."""
        found = [self._items.item(int(index))[1] for index in indices.ravel()]
        return np.array(found, dtype=np.int64).reshape(indices.shape)


def as_rgb(image: Any, name: str) -> np.ndarray:
    """An image as uint8 (H, W, C).

    Args:
        image: Pillow's, in any mode; or bytes: an array (H, W) or (H, W, C), a tensor (H, W) or (C, H, W).
        name: For messages.

    Raises:
        DataError: It is anything else, such as numbers that somebody has normalised already.
    """
    if isinstance(image, Image.Image):
        try:
            return np.asarray(plain(image).convert("RGB"))
        except Exception as error:  # Pillow's plugins raise whatever comes
            raise DataError(f"{name}: {' '.join(str(error).split())[:100] or type(error).__name__}") from error
    if isinstance(image, torch.Tensor):
        image = image.numpy(force=True)
        image = image.transpose(1, 2, 0) if image.ndim == 3 else image
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
            return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
        if image.ndim == 3 and image.shape[2] == 3:
            return np.ascontiguousarray(image)
    found = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise DataError(
        f"{name}: found {found}, allowed: a Pillow image, or bytes (uint8) with 1 or 3 channels, before normalisation"
    )
